"""The body of a request on its way from the client to the upstream.

What has come is held while there is nobody to send it to, and kept as far as another attempt, a dead letter
or the audit trail may want it once more. Both are bounded: who takes slowly makes the other side wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import BodyTooLarge
from sidecar.wire.body import chunk, last_chunk

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.idempotency.fingerprint import Fingerprinter
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.wire.head import RequestHead

_HELD_OCTETS: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestBody:
    """What comes behind a request's head.

    Args:
        exchange: The request's; ``None`` for :data:`NO_BODY`, of which nothing is ever sent or awaited.

    Attributes:
        done: Whether all of it has come.
        sent: Whether all of it has been written to the upstream, behind the head.
        forwards_expect: Whether it is the upstream that is to ask for it, with a 100.
        fingerprinter: Sees all that comes, where a key is claimed before the body is whole.
    """

    __slots__ = (
        "_awaited",
        "_exchange",
        "_hold_at_least",
        "_keep",
        "_kept",
        "_kept_size",
        "_size",
        "_upstream_slow",
        "done",
        "fingerprinter",
        "forwards_expect",
        "sent",
    )

    _exchange: Exchange

    def __init__(self, exchange: Exchange | None) -> None:
        self._awaited = False
        self._hold_at_least = _HELD_OCTETS
        self._keep = _HELD_OCTETS
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._size = 0
        self._upstream_slow = False
        self.fingerprinter: Fingerprinter | None = None
        if exchange is None:
            self.done = self.sent = True
            self.forwards_expect = False
        else:
            self._exchange = exchange
            self.done = exchange.head.length == 0
            self.sent = False
            self.forwards_expect = exchange.head.expects_continue

    def __repr__(self) -> str:
        return f"<RequestBody kept={self._kept_size} of {self._size} done={self.done}>"

    @property
    def kept(self) -> bytes:
        """What is kept of it."""
        if len(self._kept) > 1:
            self._kept = [b"".join(self._kept)]
        return self._kept[0] if self._kept else b""

    @property
    def replayable(self) -> bool:
        """Whether everything that has come is still at hand."""
        return self._kept_size == self._size

    # --- what the client does ---------------------------------------------------------------------------

    def arrived(self, payload: bytes, *, done: bool) -> None:
        """The client has sent a piece, perhaps the last one."""
        exchange = self._exchange
        exchange.bytes_in = self._size = size = self._size + len(payload)
        limit = exchange.connection.limits.body
        if limit is not None and size > limit:
            exchange.fail(too_large(limit))
            return
        if self.fingerprinter is not None:
            self.fingerprinter.update(payload)
        if done:
            self.done = True
        upstream = exchange.upstream
        if upstream is None:
            self._hold(payload)
        else:
            self._forward(upstream, payload)

    def _hold(self, payload: bytes) -> None:
        """There is no upstream yet. What is held is bounded: reading stops, and goes on when it is sent."""
        if payload:
            self._kept.append(payload)
            self._kept_size += len(payload)
        full = self._kept_size >= max(self._keep, self._hold_at_least)
        exchange = self._exchange
        if full and not self.done:
            exchange.connection.pause_reading()
        if self._awaited:
            if full or self.done:
                exchange.wake(None)
            else:
                exchange.arm(exchange.connection.limits.body_idle, "body_idle")

    def _forward(self, upstream: UpstreamConnection, payload: bytes) -> None:
        if self._size <= self._keep and self._kept_size + len(payload) == self._size:
            self._kept.append(payload)
            self._kept_size += len(payload)
        elif self._kept:
            self._drop_kept()
        if payload:
            upstream.write(payload if self._exchange.head.length is not None else chunk(payload))
        if self.done:
            self._end(upstream)
        elif not self._upstream_slow:
            self._expect_more()

    def _end(self, upstream: UpstreamConnection) -> None:
        exchange = self._exchange
        if exchange.head.length is None:
            upstream.write(last_chunk(exchange.connection.reader.body.trailers))
        self.sent = True
        if upstream.response is None:
            exchange.arm(exchange.timeouts.first_byte, "first_byte")

    def _expect_more(self) -> None:
        """More is to come; once the response has begun, what passes of either counts."""
        exchange = self._exchange
        if exchange.upstream is None or exchange.upstream.response is None:
            exchange.arm(exchange.connection.limits.body_idle, "body_idle")
        else:
            exchange.touch()

    def _drop_kept(self) -> None:
        self._kept.clear()
        self._kept_size = 0

    # --- what is needed before anything is sent ---------------------------------------------------------

    def answer_expect(self) -> None:
        """Ask for a body that is held back by ``Expect``: it is needed before the upstream sees anything."""
        self.forwards_expect = False
        if not self.done:
            self._exchange.connection.write(_CONTINUE)

    async def read(self, octets: int) -> bool:
        """Read up to ``octets`` before anything is sent; whether that is all.

        Raises:
            RequestTimeout: The client is too slow.
            ClientGone: It broke off.
        """
        if not self.done:
            self._keep = octets
            self._exchange.connection.resume_reading()
        while not self.done and self._kept_size < octets:
            await self._wait()
        return self.done

    async def begins(self) -> None:
        """Wait for the first octets.

        Raises:
            RequestTimeout: The client is too slow.
            ClientGone: It broke off.
        """
        self._keep = 0
        self._hold_at_least = 1
        self._exchange.connection.resume_reading()
        while not self._kept_size:
            await self._wait()
        self._hold_at_least = _HELD_OCTETS

    async def drain(self) -> None:
        """Read the rest and drop it; a fingerprinter sees it."""
        while not self.done:
            self._drop_kept()
            self._keep = 0
            self._exchange.connection.resume_reading()
            await self._wait()

    async def _wait(self) -> None:
        exchange = self._exchange
        exchange.arm(exchange.connection.limits.body_idle, "body_idle")
        self._awaited = True
        try:
            await exchange.wait()
        finally:
            self._awaited = False

    # --- what the upstream does -------------------------------------------------------------------------

    def send(self, upstream: UpstreamConnection, head: bytes, keep: int) -> None:
        """Write the request's head and what is at hand; what is still to come follows by itself.

        Args:
            upstream: Whom it is sent to.
            head: The request's, as it goes over the wire.
            keep: Octets up to which the body is kept for another time.
        """
        exchange = self._exchange
        connection = exchange.connection
        chunked = exchange.head.length is None
        self._upstream_slow = False
        self._keep = keep
        pieces = [head]
        if self._kept:
            if chunked:
                pieces += [chunk(piece) for piece in self._kept if piece]
            else:
                pieces += self._kept
            if self._kept_size > keep:
                self._drop_kept()
        if self.done:
            if chunked:
                pieces.append(last_chunk(connection.reader.body.trailers))
            self.sent = True
            exchange.arm(exchange.timeouts.first_byte, "first_byte")
        else:
            self.sent = False
            connection.resume_reading()
            exchange.arm(connection.limits.body_idle, "body_idle")
        upstream.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def pause(self) -> None:
        """The upstream takes it slowly: the time that passes now is its, not the client's."""
        if not self.done:
            exchange = self._exchange
            exchange.connection.pause_reading()
            self._upstream_slow = True
            exchange.arm(exchange.timeouts.idle, "idle")

    def resume(self) -> None:
        """The upstream has caught up."""
        if self._upstream_slow:
            self._upstream_slow = False
            self._expect_more()


NO_BODY: Final = RequestBody(None)
"""That of all requests without one."""


def has_body(head: RequestHead) -> bool:
    """Whether a request has a body, or speaks of one."""
    return head.length != 0 or head.expects_continue


def too_large(limit: int) -> BodyTooLarge:
    """The error for a body over ``limit`` octets."""
    return BodyTooLarge(f"the body is over {limit} octets", reason="body")
