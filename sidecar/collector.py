"""A response that the client may see the end of only when something else has been done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.wire.body import chunk, last_chunk

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.proxy import Proxy
    from sidecar.wire.head import ResponseHead


class Collector:
    """Keeps a response until it is whole, or passes it on when it is too large, but for its last piece.

    Args:
        proxy: Writes heads.
        exchange: Whose response it is.
        response: The response's head.
        keep: Octets of the body that are kept at most.

    Attributes:
        streaming: Whether the response was too large, and its beginning is with the client already.
    """

    __slots__ = (
        "_exchange",
        "_held",
        "_keep",
        "_pieces",
        "_proxy",
        "_response",
        "_size",
        "_upstream",
        "streaming",
    )

    def __init__(self, proxy: Proxy, exchange: Exchange, response: ResponseHead, *, keep: int) -> None:
        assert exchange.upstream is not None
        self._proxy = proxy
        self._exchange = exchange
        self._upstream = exchange.upstream
        self._response = response
        self._keep = keep
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = b""
        self.streaming = False

    def take(self) -> bool:
        """Take the body; whether that was all of it. If not, its end ends the exchange's next wait.

        Raises:
            UpstreamProtocolError: There is more behind its end.
        """
        exchange, response, upstream = self._exchange, self._response, self._upstream
        self._add(upstream.take_body())
        if upstream.reader.body.done:
            self._proxy.check_surplus(upstream)
            return True
        if response.length is not None and response.length > self._keep:
            self._overflow()
        exchange.expect_response_data(exchange.timeouts.idle)
        upstream.relay_body(self._add)
        return False

    @property
    def trailers(self) -> list[bytes]:
        """The body's, once it has ended; the exchange still has its upstream then."""
        return self._upstream.reader.body.trailers

    def body(self) -> bytes | None:
        """The whole body; ``None`` if it was too large."""
        return None if self.streaming else b"".join(self._pieces)

    def answer(self, body: bytes | None, trailers: list[bytes]) -> None:
        """Let the client have all of the response, or its end.

        Args:
            body: From :meth:`body`.
            trailers: From :attr:`trailers`.
        """
        if body is None:
            self._finish(trailers)
            return
        exchange = self._exchange
        head = self._proxy.response_head(exchange, self._response)
        exchange.head_sent = True
        exchange.bytes_out = len(body)
        if exchange.detached:
            return
        if exchange.writes_chunks:
            body = (chunk(body) if body else b"") + last_chunk(trailers)
        exchange.connection.write(head + body)

    def _add(self, payload: bytes) -> None:
        """The next piece of the body."""
        if self.streaming:
            held, self._held = self._held, payload
            if held:
                self._exchange.deliver(held)
            return
        self._pieces.append(payload)
        self._size += len(payload)
        if self._size > self._keep:
            self._overflow()

    def _overflow(self) -> None:
        """The response is too large to keep: let it flow from now on, one piece behind."""
        exchange = self._exchange
        self.streaming = True
        exchange.head_sent = True
        head = self._proxy.response_head(exchange, self._response)
        if not exchange.detached:
            exchange.connection.write(head)
        pieces, self._pieces = self._pieces, []
        for piece in pieces[:-1]:
            if piece:
                exchange.deliver(piece)
        self._held = pieces[-1] if pieces else b""

    def _finish(self, trailers: list[bytes]) -> None:
        """Let the last piece go."""
        if self._held:
            self._exchange.deliver(self._held)
        if self._exchange.writes_chunks and not self._exchange.detached:
            self._exchange.connection.write(last_chunk(trailers))
