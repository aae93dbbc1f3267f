"""The sockets that requests come in on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sidecar.net.server import ClientLimits, Listener
from sidecar.pipeline import correlation_fields, server_context
from sidecar.wire.fields import REMOVED, REQUEST_FIELDS, FieldRules
from sidecar.wire.head import Limits

if TYPE_CHECKING:
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.server import Handler
    from sidecar.settings import model

_BACKLOG = 1024
_PROBE_SECONDS = 1.0


class _SocketFile:
    """The file of a Unix socket that this process listens on."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._inode = self._path.stat().st_ino

    def remove(self) -> None:
        """Leave no file behind, unless another process has put its own socket there meanwhile."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


class _Opened(NamedTuple):
    """A listener that is open."""

    listener: Listener
    server: asyncio.Server
    file: _SocketFile | None

    def close(self) -> None:
        """Accept nothing more."""
        self.server.close()
        if self.file is not None:
            self.file.remove()


class Listeners:
    """Opens, replaces and closes listeners."""

    def __init__(self, handler: Handler, deadlines: Deadlines) -> None:
        self._handler = handler
        self._deadlines = deadlines
        self._open: dict[model.Listener, _Opened] = {}
        self._retired: list[Listener] = []

    @property
    def addresses(self) -> list[str]:
        """Where they listen, as ``NAME=HOST:PORT``."""
        return [
            f"{opened.listener.name}={_name_of(sock)}"
            for opened in self._open.values()
            for sock in opened.server.sockets
        ]

    @property
    def busy(self) -> int:
        """Connections that are still open."""
        return sum(len(listener.connections) for listener in self._all())

    def _all(self) -> list[Listener]:
        return [opened.listener for opened in self._open.values()] + self._retired

    async def open(self, settings: model.Settings) -> None:
        """Open every listener of ``settings``, or none.

        Raises:
            OSError: An address is taken or not ours, or a certificate cannot be read.
        """
        await self.update(settings)

    async def update(self, settings: model.Settings) -> None:
        """Open what is new in ``settings`` and close what is not in it any more; connections go on."""
        opened: dict[model.Listener, _Opened] = {}
        wanted = {_key(listener): listener for listener in settings.listeners}
        try:
            for key, entry in wanted.items():
                if key not in self._open:
                    opened[key] = await self._start(entry, settings)
        except BaseException:
            for new in opened.values():
                new.close()
            raise
        for key in [key for key in self._open if key not in wanted]:
            old = self._open.pop(key)
            old.close()
            self._retired.append(old.listener)
        for kept in self._open.values():
            _configure(kept.listener, settings)
        self._open.update(opened)
        self._retired = [listener for listener in self._retired if listener.connections]

    async def _start(self, entry: model.Listener, settings: model.Settings) -> _Opened:
        loop = asyncio.get_running_loop()
        listener = _new_listener(entry, settings, self._handler, self._deadlines)
        tls = server_context(entry.tls) if entry.tls is not None else None
        bind = entry.bind
        if bind.unix:
            _make_way(bind.unix)
            server = await loop.create_unix_server(listener.accept, bind.unix, backlog=_BACKLOG, ssl=tls)
            return _Opened(listener, server, _SocketFile(bind.unix))
        server = await loop.create_server(
            listener.accept, bind.host, bind.port, backlog=_BACKLOG, ssl=tls, reuse_address=True
        )
        return _Opened(listener, server, None)

    def close(self) -> None:
        """Accept nothing more; connections end with the response that is under way."""
        for opened in self._open.values():
            opened.close()
            opened.listener.drain()
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


def _make_way(path: str) -> None:
    """Remove the socket that a killed process left behind.

    Raises:
        OSError: Another process listens there. Binding would not tell: it takes the file for stale.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - one call, no second look
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)


def _name_of(sock: object) -> str:
    name = sock.getsockname()  # type: ignore[attr-defined]
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{name}"
