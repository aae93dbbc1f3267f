"""One connection to a host of an upstream: it carries one exchange at a time."""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.errors import SidecarError, UpstreamProtocolError, UpstreamUnreachable
from sidecar.net.deadlines import NEVER
from sidecar.wire.body import UntilCloseBody
from sidecar.wire.fields import tokens
from sidecar.wire.reader import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.exchange import Exchange
    from sidecar.net.pool import Pool
    from sidecar.wire.head import ResponseHead

# What a connection is doing.
IDLE: Final = 0  # in the pool; whatever arrives makes it unusable
HEAD: Final = 1  # a request is being sent; its response's head is awaited
PARKED: Final = 2  # the head has been handed over; its body waits for somebody to take it
BODY: Final = 3  # the body is being relayed
TUNNEL: Final = 4  # octets pass both ways after a 101
CLOSED: Final = 5

UPSTREAM_SIDE: Final = "upstream"
CLIENT_SIDE: Final = "client"

_PARKED_OCTETS: Final = 64 * 1024


class UpstreamConnection(asyncio.Protocol):
    """A connection to one host, pooled between exchanges.

    Attributes:
        counted: Whether it has a place in its pool.
        exchange: Whom the response is for.
        reader: Octets and body of the response.
        reused: Whether it has carried an exchange before this one.
        touched: Whether any octet of the present response has arrived.
    """

    __slots__ = (
        "_early",
        "_ended",
        "_interim",
        "_poll",
        "_pool",
        "_reading",
        "_sink",
        "_writing_paused",
        "counted",
        "deadline",
        "exchange",
        "looked_at",
        "phase",
        "reader",
        "response",
        "reused",
        "touched",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sink: Callable[[bytes], None] | None = None
        self._interim: set[int] = set()
        self._poll: select.poll | None = None
        self._early = b""
        self._ended = False
        self._reading = True
        self._writing_paused = False
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self.counted = True
        self.exchange: Exchange | None = None
        self.reader = ResponseReader(pool.rules, pool.limits)
        self.response: ResponseHead | None = None
        self.phase = IDLE
        self.reused = False
        self.touched = False
        self.deadline = NEVER
        self.looked_at = NEVER

    def __repr__(self) -> str:
        return f"<UpstreamConnection {self._pool.label} phase={self.phase}>"

    # --- what the exchange does -------------------------------------------------------------------------

    def is_readable(self) -> bool:
        """Whether the kernel has something that the loop has not read; while idle, most likely the end."""
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def begin(self, exchange: Exchange) -> None:
        """Carry ``exchange``: its request is about to be written."""
        self.exchange = exchange
        self.phase = HEAD
        self.response = None
        self.touched = False
        self.deadline = NEVER
        if self._interim:
            self._interim.clear()

    def write(self, data: bytes) -> None:
        """Send octets of the request."""
        if self.phase != CLOSED:
            self.transport.write(data)

    def take_body(self) -> bytes:
        """The payload that has arrived with the head; ``reader.body.done`` says whether that is all."""
        reader = self.reader
        if reader.body.done or not reader.buffer:
            early, self._early = self._early, b""
            return early
        return reader.read_body()

    def relay_body(self, sink: Callable[[bytes], None]) -> None:
        """Pass the rest of the body to ``sink`` as it arrives; the exchange is woken at its end."""
        exchange = self.exchange
        if exchange is not None:  # else the connection has ended, and the exchange knows
            self.phase = BODY
            self._sink = sink
            exchange.let_upstream_flow(self)

    def open_tunnel(self, sink: Callable[[bytes], None]) -> bool:
        """Pass everything to ``sink``, beginning with what came behind the 101; whether more may come."""
        early, self.reader.buffer = self.reader.buffer, b""
        if early:
            sink(early)
        exchange = self.exchange
        if exchange is None:
            return False
        self.phase = TUNNEL
        self._sink = sink
        exchange.let_upstream_flow(self)
        return True

    def finish(self) -> None:
        """The exchange is over in good order: back to the pool, or closed if it cannot be used again."""
        response = self.response
        exchange = self.exchange
        self.exchange = None
        self._sink = None
        if (
            self.phase != CLOSED
            and response is not None
            and response.persistent
            and not self.reader.buffer
            and exchange is not None
            and exchange.body.sent
            and not self._writing_paused
        ):
            self.phase = IDLE
            self.reused = True
            self.resume_reading()
            self._pool.put(self)
        else:
            self.discard()

    def drop_response(self) -> None:
        """Nobody wants the rest of the response. If all of it has come, the connection is still good."""
        whole = False
        if self.response is not None:
            with suppress(SidecarError):
                self.take_body()
                whole = self.reader.body.done
        if whole:
            self.finish()
        else:
            self.discard()

    def discard(self) -> None:
        """Close at once; nobody waits for anything here any more."""
        self.exchange = None
        self._sink = None
        if self.phase != CLOSED:
            self.phase = CLOSED
            if self.transport is not None:  # else it was given up before it was made
                self.transport.abort()

    def pause_reading(self) -> None:
        """The client is slow: stop taking octets from the upstream."""
        if self._reading and self.phase != CLOSED:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take octets again."""
        if not self._reading and self.phase != CLOSED:
            self._reading = True
            self.transport.resume_reading()

    def end_writing(self) -> None:
        """The client has closed its half of a tunnel."""
        if self.phase != CLOSED and not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()

    def expire(self, now: float) -> None:  # noqa: ARG002 - the sweep's signature
        """It has been idle for too long; while it carries an exchange it has no deadline."""
        self.deadline = NEVER
        self.discard()

    # --- what the socket does ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The host has accepted."""
        self.transport = transport  # type: ignore[assignment]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        """Octets of a response."""
        phase = self.phase
        if phase == BODY:
            self._relay(data)
        elif phase == HEAD:
            self.touched = True
            self.reader.push(data)
            self._read_heads()
        elif phase == PARKED:
            self.reader.push(data)
            if len(self.reader.buffer) > _PARKED_OCTETS:
                self.pause_reading()
        elif phase == TUNNEL:
            assert self._sink is not None
            self._sink(data)
        else:
            # Octets that nobody asked for: the next response on this connection could not be trusted.
            self.discard()

    def _relay(self, data: bytes) -> None:
        reader = self.reader
        exchange, sink = self.exchange, self._sink
        assert exchange is not None
        assert sink is not None
        reader.push(data)
        try:
            payload = reader.read_body()
        except SidecarError as error:
            self.discard()
            exchange.fail(error)
            return
        if payload:
            sink(payload)
        if reader.body.done:
            exchange.wake(None)
        else:
            exchange.touch()

    def _read_heads(self) -> None:
        exchange = self.exchange
        assert exchange is not None
        try:
            while True:
                head = self.reader.next_head(exchange.head.method)
                if head is None:
                    return
                if head.status >= 200 or head.status == 101:  # noqa: PLR2004 - RFC 9110, section 15.2
                    break
                self._check_interim(head, exchange)
                exchange.interim(head)
            if head.status == 101:  # noqa: PLR2004
                _check_switch(head, exchange)
        except SidecarError as error:
            self.discard()
            exchange.fail(error)
            return
        self.response = head
        self.phase = PARKED
        exchange.wake(head)

    def _check_interim(self, head: ResponseHead, exchange: Exchange) -> None:
        """A 100 only when asked for, and no interim status twice."""
        status = head.status
        if status in self._interim or (status == 100 and not exchange.body.forwards_expect):  # noqa: PLR2004
            raise UpstreamProtocolError(f"an unexpected {status}", reason="unexpected_1xx", sent=True)
        self._interim.add(status)

    def eof_received(self) -> bool:
        """The upstream has closed its half; under TLS, with its ``close_notify`` (RFC 9112, section 9.8)."""
        self._ended = True
        if self.phase == TUNNEL and self.exchange is not None:
            self.exchange.tunnel_half_closed(UPSTREAM_SIDE)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        phase, exchange = self.phase, self.exchange
        self.phase = CLOSED
        self.deadline = NEVER
        self.exchange = None
        self._sink = None
        self._pool.lost(self)
        if exchange is None:
            return
        if phase == TUNNEL:
            exchange.wake(None)
            return
        error = self._end_response(phase, in_order=self._ended and exc is None)
        if error is not None:
            exchange.fail(error)
        elif phase == BODY:
            exchange.wake(None)

    def _end_response(self, phase: int, *, in_order: bool) -> SidecarError | None:
        """Nothing more will come of the response: what is missing, if anything is.

        Where nobody has taken the body yet, it is kept for :meth:`take_body`.
        """
        body = self.reader.body
        if phase == PARKED:
            try:
                self._early = self.take_body()
            except SidecarError as error:
                return error
        if phase in (PARKED, BODY):
            if in_order and isinstance(body, UntilCloseBody):
                body.end()
            if body.done:
                return None
        return UpstreamUnreachable(
            "the upstream closed the connection before its response was complete", reason="reset", sent=True
        )

    def pause_writing(self) -> None:
        """The upstream takes the request slowly: stop the client."""
        self._writing_paused = True
        if self.exchange is not None:
            self.exchange.pause_client()

    def resume_writing(self) -> None:
        """The upstream has caught up."""
        self._writing_paused = False
        if self.exchange is not None:
            self.exchange.resume_client()


def _check_switch(head: ResponseHead, exchange: Exchange) -> None:
    """A 101 must name a protocol that was offered (RFC 9110, section 7.8); anything else opens no tunnel."""
    offered = exchange.head.upgrade
    named = tokens(head.special.get(b"upgrade", []))
    if offered is None or not named or not set(named) <= set(tokens([offered])):
        raise UpstreamProtocolError("a 101 that nobody asked for", reason="unexpected_101", sent=True)
