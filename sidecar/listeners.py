"""The sockets that requests come in on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.net.binding import BACKLOG, Binding, bind, name_of
from sidecar.net.server import ClientLimits, Listener
from sidecar.pipeline import correlation_fields
from sidecar.tls import server_context
from sidecar.wire.fields import REMOVED, REQUEST_FIELDS, FieldRules
from sidecar.wire.head import Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sidecar.net.binding import SocketFile
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.server import Handler
    from sidecar.settings import model
    from sidecar.settings.addresses import Address

_FAREWELL_SECONDS: Final = 1.0
"""How long a client may take to answer TLS's close_notify. Many never do; a drain would wait for them."""


class _Opened(NamedTuple):
    """A listener that is open, on one socket or, where a name has several addresses, on each of them."""

    listener: Listener
    servers: tuple[asyncio.Server, ...]
    file: SocketFile | None

    def stop(self) -> None:
        """Accept nothing more."""
        for server in self.servers:
            server.close()

    def duplicate(self) -> Binding:
        """Its sockets once more: whoever listens on them next misses no connection."""
        sockets = [sock for server in self.servers for sock in server.sockets]
        return Binding(tuple(socket.socket(fileno=os.dup(sock.fileno())) for sock in sockets), self.file)


class Listeners:
    """Opens, replaces and closes listeners.

    Args:
        handler: Who answers requests.
        deadlines: What watches over time.
        bind: Listens on an address; a worker is handed its sockets instead.
    """

    def __init__(
        self,
        handler: Handler,
        deadlines: Deadlines,
        bind: Callable[[Address], Awaitable[Binding]] = bind,
    ) -> None:
        self._handler = handler
        self._deadlines = deadlines
        self._bind = bind
        self._open: dict[model.Listener, _Opened] = {}
        self._retired: list[Listener] = []
        self._closed = False

    @property
    def addresses(self) -> list[str]:
        """Where they listen, as ``NAME=HOST:PORT``."""
        return [
            f"{opened.listener.name}={name_of(sock)}"
            for opened in self._open.values()
            for server in opened.servers
            for sock in server.sockets
        ]

    @property
    def busy(self) -> int:
        """Connections that are still open."""
        return sum(len(listener.connections) for listener in self._all())

    def _all(self) -> list[Listener]:
        return [opened.listener for opened in self._open.values()] + self._retired

    async def update(self, settings: model.Settings) -> None:
        """Open what is new in ``settings`` and close what is not in it any more.

        Connections go on; those of a listener that is closed end with the response that is under way.

        Raises:
            OSError: An address is taken or not ours, a certificate cannot be read, or :meth:`close` has been
                called; nothing has changed.
        """
        by_address = {entry.bind: opened for entry, opened in self._open.items()}
        wanted: dict[model.Listener, _Opened] = {}
        started: list[_Opened] = []
        try:
            for entry in settings.listeners:
                kept = self._open.get(entry)
                # Files of the same name may hold a renewed certificate: TLS begins anew each time.
                if kept is None or entry.tls is not None:
                    kept = await self._start(entry, settings, by_address.get(entry.bind))
                    started.append(kept)
                wanted[entry] = kept
            self._check_open()
        except BaseException:
            self._stop(started, keep=self._open)
            raise
        before, self._open = self._open, wanted
        self._stop(before.values(), keep=wanted)
        for entry, opened in wanted.items():
            _configure(opened.listener, entry, settings)
        self._retired = [listener for listener in self._retired if listener.connections]

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the listeners are closed for good")

    def _stop(self, those: Iterable[_Opened], *, keep: dict[model.Listener, _Opened]) -> None:
        """Close ``those`` but for what they share with the ones to ``keep``."""
        kept = list(keep.values())
        listeners = {opened.listener for opened in kept}
        files = {opened.file for opened in kept}
        for opened in those:
            if any(opened is it for it in kept):
                continue
            opened.stop()
            if opened.file is not None and opened.file not in files:
                opened.file.remove()
            if opened.listener not in listeners:
                opened.listener.drain()
                self._retired.append(opened.listener)

    async def _start(self, entry: model.Listener, settings: model.Settings, there: _Opened | None) -> _Opened:
        """Listen for ``entry``, with the sockets of who is ``there`` already."""
        tls = _tls_options(entry.tls, settings.limits) if entry.tls is not None else {}
        listener = _new_listener(entry, settings, self._handler, self._deadlines)
        if there is not None and (there.listener.name, there.listener.scheme) == (
            entry.name,
            listener.scheme,
        ):
            listener = there.listener
        loop = asyncio.get_running_loop()
        serve = loop.create_unix_server if entry.bind.unix else loop.create_server
        binding = await self._bind(entry.bind) if there is None else there.duplicate()
        servers = [
            await serve(listener.accept, sock=sock, backlog=BACKLOG, **tls) for sock in binding.sockets
        ]
        return _Opened(listener, tuple(servers), binding.file)

    def close(self) -> None:
        """Accept nothing more; connections end with the response that is under way."""
        self._closed = True
        before, self._open = self._open, {}
        self._stop(before.values(), keep={})

    async def kill(self) -> None:
        """Break what is still open."""
        for listener in self._all():
            for connection in list(listener.connections):
                connection.kill()


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


def _configure(listener: Listener, entry: model.Listener, settings: model.Settings) -> None:
    """Give an open listener the new configuration; connections that are open keep their limits."""
    correlation = entry.correlation or settings.correlation
    listener.limits = _limits_of(settings.limits)
    listener.capacity = settings.limits.connections
    listener.rules = FieldRules({**REQUEST_FIELDS, **dict.fromkeys(correlation_fields(settings), REMOVED)})
    listener.trust_ids = correlation.inbound == "trust"
    listener.name_ids(correlation.header)


def _tls_options(tls: model.ListenerTls, limits: model.Limits) -> dict[str, Any]:
    """What a server takes for TLS: a handshake may be as slow as a head, a farewell is hardly waited for."""
    return {
        "ssl": server_context(tls),
        "ssl_handshake_timeout": limits.header_timeout,
        "ssl_shutdown_timeout": _FAREWELL_SECONDS,
    }


def _limits_of(limits: model.Limits) -> ClientLimits:
    return ClientLimits(
        head=Limits(limits.header_bytes, limits.headers, limits.request_line),
        header_timeout=limits.header_timeout,
        body_idle=limits.body_idle,
        keep_alive=limits.keep_alive,
        body=limits.body,
    )
