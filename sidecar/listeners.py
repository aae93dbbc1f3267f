"""The sockets that requests come in on."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.net.server import ClientLimits, Listener
from sidecar.pipeline import correlation_fields, server_context
from sidecar.wire.fields import REMOVED, REQUEST_FIELDS, FieldRules
from sidecar.wire.head import Limits

if TYPE_CHECKING:
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.server import Handler
    from sidecar.settings import model

_BACKLOG = 1024


class Listeners:
    """Opens, replaces and closes listeners."""

    def __init__(self, handler: Handler, deadlines: Deadlines) -> None:
        self._handler = handler
        self._deadlines = deadlines
        self._open: dict[model.Listener, tuple[Listener, asyncio.Server]] = {}
        self._retired: list[Listener] = []

    @property
    def addresses(self) -> list[str]:
        """Where they listen, as ``NAME=HOST:PORT``."""
        return [
            f"{listener.name}={_name_of(sock)}"
            for listener, server in self._open.values()
            for sock in server.sockets
        ]

    @property
    def busy(self) -> int:
        """Connections that are still open."""
        return sum(len(listener.connections) for listener in self._all())

    def _all(self) -> list[Listener]:
        return [listener for listener, _ in self._open.values()] + self._retired

    async def open(self, settings: model.Settings) -> None:
        """Open every listener of ``settings``, or none.

        Raises:
            OSError: An address is taken or not ours, or a certificate cannot be read.
        """
        await self.update(settings)

    async def update(self, settings: model.Settings) -> None:
        """Open what is new in ``settings`` and close what is not in it any more; connections go on."""
        opened: dict[model.Listener, tuple[Listener, asyncio.Server]] = {}
        wanted = {_key(listener): listener for listener in settings.listeners}
        try:
            for key, entry in wanted.items():
                if key not in self._open:
                    opened[key] = await self._start(entry, settings)
        except BaseException:
            for _, server in opened.values():
                server.close()
            raise
        for key in [key for key in self._open if key not in wanted]:
            listener, server = self._open.pop(key)
            server.close()
            self._retired.append(listener)
        for listener, _ in self._open.values():
            _configure(listener, settings)
        self._open.update(opened)
        self._retired = [listener for listener in self._retired if listener.connections]

    async def _start(
        self, entry: model.Listener, settings: model.Settings
    ) -> tuple[Listener, asyncio.Server]:
        loop = asyncio.get_running_loop()
        listener = _new_listener(entry, settings, self._handler, self._deadlines)
        tls = server_context(entry.tls) if entry.tls is not None else None
        bind = entry.bind
        if bind.unix:
            _remove_stale(bind.unix)
            server = await loop.create_unix_server(listener.accept, bind.unix, backlog=_BACKLOG, ssl=tls)
        else:
            server = await loop.create_server(
                listener.accept, bind.host, bind.port, backlog=_BACKLOG, ssl=tls, reuse_address=True
            )
        return listener, server

    def close(self) -> None:
        """Accept nothing more; connections end with the response that is under way."""
        for listener, server in self._open.values():
            server.close()
            listener.drain()
        for listener in self._retired:
            listener.drain()

    def kill(self) -> None:
        """Break what is still open."""
        for listener in self._all():
            for connection in list(listener.connections):
                connection.kill()


def _key(entry: model.Listener) -> model.Listener:
    return entry


def _new_listener(
    entry: model.Listener, settings: model.Settings, handler: Handler, deadlines: Deadlines
) -> Listener:
    correlation = entry.correlation or settings.correlation
    rules = FieldRules({**REQUEST_FIELDS, **dict.fromkeys(correlation_fields(settings), REMOVED)})
    return Listener(
        entry.name,
        scheme="http" if entry.tls is None else "https",
        handler=handler,
        limits=_limits_of(settings.limits),
        rules=rules,
        deadlines=deadlines,
        capacity=settings.limits.connections,
        trust_ids=correlation.inbound == "trust",
        correlation_header=correlation.header,
    )


def _configure(listener: Listener, settings: model.Settings) -> None:
    """Give an open listener the new configuration; connections that are open keep their limits."""
    entry = next(entry for entry in settings.listeners if entry.name == listener.name)
    correlation = entry.correlation or settings.correlation
    listener.limits = _limits_of(settings.limits)
    listener.capacity = settings.limits.connections
    listener.rules = FieldRules({**REQUEST_FIELDS, **dict.fromkeys(correlation_fields(settings), REMOVED)})
    listener.trust_ids = correlation.inbound == "trust"
    listener.name_ids(correlation.header)


def _limits_of(limits: model.Limits) -> ClientLimits:
    return ClientLimits(
        head=Limits(limits.header_bytes, limits.headers, limits.request_line),
        header_timeout=limits.header_timeout,
        body_idle=limits.body_idle,
        keep_alive=limits.keep_alive,
        body=limits.body,
    )


def _remove_stale(path: str) -> None:
    """A socket that a killed process left behind is in the way; one that somebody listens on is not ours."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - one call, no second look
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)


def _name_of(sock: object) -> str:
    name = sock.getsockname()  # type: ignore[attr-defined]
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{name}"
