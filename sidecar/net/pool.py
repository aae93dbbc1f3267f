"""Connections to one host: opened when needed, kept for a while, bounded in number."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING

from sidecar.errors import UpstreamTimeout, UpstreamUnreachable
from sidecar.net.deadlines import NEVER
from sidecar.net.upstream import CLOSED, UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.net.deadlines import Deadlines
    from sidecar.settings.addresses import UpstreamUrl
    from sidecar.wire.fields import FieldRules
    from sidecar.wire.head import Limits


class Pool:
    """The connections to one host.

    Attributes:
        label: The host as it is shown, ``HOST:PORT``.
        rules: Which fields of a response mean something to the sidecar.
        limits: Bounds on a response's head.
        size: Connections open or being opened.
    """

    def __init__(
        self,
        url: UpstreamUrl,
        *,
        tls: ssl.SSLContext | None,
        rules: FieldRules,
        limits: Limits,
        deadlines: Deadlines,
        max_connections: int,
        idle: float,
        connect: float,
    ) -> None:
        self.label = url.unix or str(url).partition("://")[2]
        self.rules = rules
        self.limits = limits
        self.size = 0
        self._url = url
        self._tls = tls
        self._deadlines = deadlines
        self._max_connections = max_connections
        self._keep = idle
        self._connect_timeout = connect
        self._idle: list[UpstreamConnection] = []
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool {self.label} size={self.size} idle={len(self._idle)} waiting={len(self._waiters)}>"

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    def take(self, *, surely: bool = False) -> UpstreamConnection | None:
        """The idle connection that was used last, or ``None``: then :meth:`open` one.

        Args:
            surely: Whether to make sure that the host has not closed it in this very moment, for a request
                that may not be sent twice.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.phase == CLOSED or connection.transport.is_closing():
                continue
            if surely and connection.is_readable():
                connection.discard()
                continue
            return connection
        return None

    async def open(self) -> UpstreamConnection:
        """A connection, new or come free meanwhile.

        Raises:
            UpstreamUnreachable: The host refuses, is unknown, or fails the TLS handshake.
            UpstreamTimeout: ``connect`` ran out, or no connection came free within it.
        """
        try:
            async with asyncio.timeout(self._connect_timeout):
                while True:
                    # One may have come back since the caller looked, and again after each wait.
                    connection = self.take(surely=True)
                    if connection is not None:
                        return connection
                    if self.size < self._max_connections:
                        return await self._connect()
                    await self._wait_for_place()
        except TimeoutError:
            raise UpstreamTimeout(
                f"no connection to the upstream within {self._connect_timeout:g} s", reason="connect"
            ) from None

    async def _wait_for_place(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def _connect(self) -> UpstreamConnection:
        self.size += 1
        made: list[UpstreamConnection] = []

        def make() -> UpstreamConnection:
            made.append(UpstreamConnection(self))
            return made[0]

        try:
            await self.dial(make)
        except BaseException as error:
            self._give_up(made)
            if isinstance(error, OSError | ssl.SSLError):
                raise UpstreamUnreachable(
                    "the upstream cannot be reached", reason=_reason_of(error)
                ) from error
            raise
        return made[0]

    async def dial(self, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connect to the host for a protocol of the caller's; the pool neither counts nor keeps it.

        Raises:
            OSError: The host refuses, is unknown, or fails the TLS handshake (:class:`ssl.SSLError`).
        """
        url = self._url
        if url.unix:
            await self._loop.create_unix_connection(protocol, url.unix)
            return
        name = url.host if self._tls is not None else None
        await self._loop.create_connection(protocol, url.host, url.port, ssl=self._tls, server_hostname=name)

    def _give_up(self, made: list[UpstreamConnection]) -> None:
        """Count out a connection that nobody gets.

        At once: `connection_lost` may never follow. uvloop forgets the protocol of a connection whose opening
        is cancelled in the turn of the loop in which it was made.
        """
        if made:
            made[0].discard()
            self.lost(made[0])
        else:
            self.size -= 1
            self._wake_one()

    def put(self, connection: UpstreamConnection) -> None:
        """Keep ``connection`` for the next exchange."""
        if self._keep <= 0 or self._closed:
            connection.discard()
            return
        connection.deadline = self._loop.time() + self._keep
        if connection.looked_at == NEVER:
            self._deadlines.watch(connection)
        self._idle.append(connection)
        if self._waiters:
            self._wake_one()

    def lost(self, connection: UpstreamConnection) -> None:
        """``connection`` is gone; it may be said twice."""
        if not connection.counted:
            return
        connection.counted = False
        self.size -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on; exchanges under way finish."""
        self._closed = True
        for connection in list(self._idle):
            connection.discard()
        self._idle.clear()


def _reason_of(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connect_refused"
    if isinstance(error, socket.gaierror):
        return "dns"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return "connect"
