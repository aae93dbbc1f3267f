"""Connections from clients: requests are read and answered one after another."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.driver import PARK, Driver
from sidecar.errors import ClientGone, RequestTimeout, SidecarError
from sidecar.net.deadlines import NEVER
from sidecar.net.upstream import CLIENT_SIDE
from sidecar.wire.reader import RequestReader

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.wire.fields import FieldRules
    from sidecar.wire.head import Limits, RequestHead

_PIPELINED_OCTETS: Final = 64 * 1024
_LINGER_SECONDS: Final = 2.0
_LINGER_OCTETS: Final = 1024 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # struct linger: on, no time


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What a client may send, and how slowly. Times are in seconds."""

    head: Limits
    header_timeout: float
    body_idle: float
    keep_alive: float
    body: int | None


class Handler:
    """What answers requests. A class to inherit from: compiled, a call through a protocol costs more."""

    __slots__ = ()

    async def handle(self, connection: ServerConnection, head: RequestHead) -> None:
        """Answer one request on ``connection``."""
        raise NotImplementedError

    def crashed(self, error: BaseException) -> None:
        """Tell of a fault of our own."""
        raise NotImplementedError

    def refuse(self, connection: ServerConnection, error: SidecarError) -> None:
        """Answer what could not be read as a request; the connection is closed afterwards."""
        raise NotImplementedError


class Listener:
    """What all connections of one listener share.

    Attributes:
        name: The listener's.
        scheme: ``http`` or ``https``.
        handler: Who answers; replaced as a whole when the configuration is reloaded.
        connections: Those that are open.
        draining: No further request is read.
        capacity: Connections at once; more are closed as soon as they are accepted.
    """

    def __init__(
        self,
        name: str,
        *,
        scheme: str,
        handler: Handler,
        limits: ClientLimits,
        rules: FieldRules,
        deadlines: Deadlines,
        capacity: int,
        trust_ids: bool,
        correlation_header: str,
    ) -> None:
        self.name = name
        self.scheme = scheme
        self.handler = handler
        self.limits = limits
        self.rules = rules
        self.deadlines = deadlines
        self.capacity = capacity
        self.trust_ids = trust_ids
        self.name_ids(correlation_header)
        self.connections: set[ServerConnection] = set()
        self.draining = False
        self.refused = 0
        self.loop = asyncio.get_running_loop()
        self.proto_field = b"X-Forwarded-Proto: %b\r\n" % scheme.encode()

    def name_ids(self, correlation_header: str) -> None:
        """Carry correlation ids in ``correlation_header`` from now on."""
        self.correlation_field = correlation_header.lower().encode()
        self.correlation_name = correlation_header.encode()

    def id_fields(self, correlation_id: bytes, request_id: bytes) -> bytes:
        """The field lines that carry a request's ids."""
        return b"%b: %b\r\nX-Request-ID: %b\r\n" % (self.correlation_name, correlation_id, request_id)

    def accept(self) -> ServerConnection:
        """The protocol of a new connection."""
        return ServerConnection(self)

    def drain(self) -> None:
        """Close idle connections, and the others as soon as they have answered."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()


class ServerConnection(asyncio.Protocol):
    """A client's connection.

    One coroutine per connection waits for a request, has it answered, and waits again. What arrives while a
    request is being answered is its body, or waits for its turn (pipelining).

    Attributes:
        persistent: Whether another request may follow the present one.
        closed: Whether it is gone, or broken.
        tunnel: Where its octets go after a 101.
        writing_paused: Whether the client has not taken what was written, and no more is to be.
        driver: Runs its coroutine.
    """

    __slots__ = (
        "_closing",
        "_ending",
        "_eof",
        "_exchange",
        "_head_timed",
        "_lingered",
        "_lingering",
        "_loop",
        "_paused",
        "_untaken",
        "closed",
        "deadline",
        "driver",
        "limits",
        "listener",
        "looked_at",
        "peer",
        "persistent",
        "reader",
        "transport",
        "tunnel",
        "writing_paused",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.limits = listener.limits
        self.reader = RequestReader(listener.rules, listener.limits.head)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self.peer = b""
        self.persistent = True
        self.closed = False
        self.tunnel: UpstreamConnection | None = None
        self.deadline = NEVER
        self.looked_at = NEVER
        self._loop = listener.loop
        self._exchange: Exchange | None = None
        self.driver: Driver = None  # type: ignore[assignment]  # set with the transport
        self._paused = False
        self._eof = False
        self.writing_paused = False
        self._closing = False
        self._ending = False
        self._untaken = 0
        self._head_timed = False
        self._lingering = False
        self._lingered = 0

    def __repr__(self) -> str:
        return f"<ServerConnection {self.listener.name} from {self.peer!r}>"

    # --- the story of a connection ----------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            while not self.closed:
                if self.writing_paused:
                    self._expect_client()
                    await PARK
                    continue
                head = self.reader.next_head() if self.reader.buffer else None
                if head is None:
                    if self._eof or (self._closing and not self.reader.buffer):
                        break
                    self._expect_data()
                    await PARK
                    continue
                self._head_timed = False
                self.persistent = head.persistent
                await self.listener.handler.handle(self, head)
                if not self.persistent or self._closing:
                    break
            self._finish()
        except SidecarError as error:
            self.listener.handler.refuse(self, error)
            self._finish(linger=True)
        except ClientGone:
            self.abort()

    def _crashed(self, error: BaseException) -> None:
        """A fault of our own: this connection ends, the others do not notice."""
        self.listener.handler.crashed(error)
        self.abort()

    def _expect_data(self) -> None:
        """More octets, the client's end, or a head that takes too long will resume the coroutine."""
        if not self.reader.buffer:
            self._set_deadline(self.limits.keep_alive)
        elif not self._head_timed:
            self._head_timed = True
            self._set_deadline(self.limits.header_timeout)
        if self._paused:
            self.resume_reading()

    def _expect_client(self) -> None:
        """The client takes its answers slowly: no further one is made before it has caught up."""
        if len(self.reader.buffer) > _PIPELINED_OCTETS:
            self.pause_reading()
        if not self._untaken:
            self._watch_taking()

    def _watch_taking(self) -> None:
        """Look again in a while if the client has taken anything of what was written."""
        self._untaken = self.transport.get_write_buffer_size()
        self._set_deadline(self.limits.keep_alive)

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds
        if self.deadline < self.looked_at:
            self.listener.deadlines.watch(self)

    def _finish(self, *, linger: bool = False) -> None:
        """Close in good order: what was written still arrives."""
        if self.closed:
            return
        if (linger or not self.reader.body.done) and not self._eof and self.transport.can_write_eof():
            # Closing while the client still sends would reset the connection and destroy the answer on its
            # way (RFC 9112, section 9.6): close our half, and read on for a moment.
            self._lingering = True
            self._set_deadline(_LINGER_SECONDS)
            self.resume_reading()
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        """Close as soon as the client has taken what was written."""
        self._ending = True
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch_taking()

    # --- what the exchange does -------------------------------------------------------------------------

    def start_exchange(self, exchange: Exchange) -> None:
        """``exchange`` is answered now; what has arrived of its body is handed to it."""
        self._exchange = exchange
        reader = self.reader
        if not reader.body.done:
            if reader.buffer:
                self._pass_body()
            elif self._eof:
                exchange.client_closed_half()

    def end_exchange(self) -> None:
        """The present exchange is over."""
        self._exchange = None
        self.tunnel = None
        if not self.reader.body.done:
            self.persistent = False

    def open_tunnel(self, upstream: UpstreamConnection) -> bytes:
        """Pass everything to ``upstream`` from now on; what has come already is returned."""
        self.tunnel = upstream
        early, self.reader.buffer = self.reader.buffer, b""
        self.resume_reading()  # it may have stopped at what it took for further requests
        return early

    @property
    def half_closed(self) -> bool:
        """Whether the client sends nothing more."""
        return self._eof

    @property
    def draining(self) -> bool:
        """Whether this response is the connection's last."""
        return self.listener.draining

    def write(self, data: bytes) -> None:
        """Send octets to the client."""
        if not self.closed:
            self.transport.write(data)

    def abort(self) -> None:
        """Break the connection, so that the client cannot take what it has for the whole answer."""
        self.persistent = False
        if not self.closed:
            self.closed = True
            # Without this the kernel may close with a FIN, which ends a close-delimited body in good order.
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()

    def end_writing(self) -> None:
        """Close our half, in a tunnel."""
        if not self.closed and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def pause_reading(self) -> None:
        """Take no more octets from the client."""
        if not self._paused and not self.closed:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take octets again."""
        if self._paused and not self.closed:
            self._paused = False
            self.transport.resume_reading()

    def drain(self) -> None:
        """Read no further request."""
        self._closing = True
        if self._exchange is None and not self.reader.buffer:
            self.driver.resume()

    def kill(self) -> None:
        """The drain's time is up."""
        self.driver.cancel()
        self.abort()

    def expire(self, now: float) -> None:
        """The deadline has passed: the exchange's, the head's, or that of an idle connection."""
        self.deadline = NEVER
        exchange = self._exchange
        if exchange is not None:
            exchange.expire(now)
        elif self._ending or self.writing_paused:
            self._give_up_if_stuck()
        elif self._lingering or not self.reader.buffer:
            self._close()
        else:
            self.driver.throw(
                RequestTimeout("the request's head did not arrive in time", reason="header_timeout")
            )

    def _give_up_if_stuck(self) -> None:
        """Wait on for a client that is slow, not for one that takes nothing at all."""
        if self.transport.get_write_buffer_size() < self._untaken:
            self._watch_taking()
        else:
            self.abort()

    # --- what the socket does ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = transport  # type: ignore[assignment]  # a stream's transport
        listener = self.listener
        if len(listener.connections) >= listener.capacity or listener.draining:
            listener.refused += 1
            self.closed = True
            self.transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].encode() if isinstance(peer, tuple) else b"unix"
        listener.connections.add(self)
        self.driver = Driver(self._serve(), self._crashed)
        self.driver.start()

    def data_received(self, data: bytes) -> None:
        """Octets from the client."""
        tunnel = self.tunnel
        if tunnel is not None:
            tunnel.write(data)
            exchange = self._exchange
            assert exchange is not None
            exchange.bytes_in += len(data)
            exchange.touch()
            return
        if self._lingering:
            self._lingered += len(data)
            if self._lingered > _LINGER_OCTETS:
                self.transport.abort()
            return
        self.reader.push(data)
        if self._exchange is None:
            self.driver.resume()
        elif not self.reader.body.done:
            self._pass_body()
        elif len(self.reader.buffer) > _PIPELINED_OCTETS:
            self.pause_reading()

    def _pass_body(self) -> None:
        exchange, reader = self._exchange, self.reader
        assert exchange is not None
        try:
            payload = reader.read_body()
        except SidecarError as error:
            self.persistent = False
            exchange.fail(error)
            return
        exchange.body.arrived(payload, done=reader.body.done)

    def eof_received(self) -> bool:
        """The client has closed its half. It may still read: what it has asked for is answered."""
        self._eof = True
        if not self.reader.buffer:  # else there may be further requests, which came before the end
            self.persistent = False
        if self.tunnel is not None and self._exchange is not None:
            self._exchange.tunnel_half_closed(CLIENT_SIDE)
        elif self._lingering:
            return False
        elif self._exchange is not None:
            self._exchange.client_closed_half()
        else:
            self.driver.resume()
        return self.listener.scheme == "http"

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it went, it is gone
        """The client is gone."""
        if self not in self.listener.connections:
            return  # one too many: it was never served
        self.closed = True
        self.listener.connections.discard(self)
        if self._exchange is not None:
            self._exchange.client_lost()  # it may go on alone, and keeps its deadline then
        else:
            self.deadline = NEVER
            self.driver.resume()

    def pause_writing(self) -> None:
        """The client reads slowly: stop the upstream."""
        self.writing_paused = True
        if self._exchange is not None:
            self._exchange.pause_upstream()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writing_paused = False
        self._untaken = 0
        if self._exchange is not None:
            self._exchange.resume_upstream()
        else:
            self.driver.resume()
