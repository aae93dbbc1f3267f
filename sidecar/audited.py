"""Audited requests: what they change has its row in the audit trail, whatever becomes of them.

In ``best_effort`` a response flows as it always does, and what passes is looked at; nothing is awaited. In
``required``, the intent is durable before the request is sent, and the client sees the end of the response
only when the outcome is durable as well. A keyed request is audited where it is executed (`keyed.py`): a
replay changes nothing and makes no row.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.audit.sources import Message
from sidecar.collector import Collector
from sidecar.errors import SidecarError
from sidecar.responses import is_event_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.attempts import Attempts
    from sidecar.audit.hook import AuditPlan
    from sidecar.audit.intent import Intent
    from sidecar.exchange import Exchange
    from sidecar.internal import Answer
    from sidecar.proxy import Proxy
    from sidecar.wire.head import ResponseHead

    Look = Callable[[Exchange, int], Awaitable[Answer]]
    """Reads what an exchange is about to change; at most so many octets of it."""

_SWITCHING: Final = 101
_SUCCESSES: Final = range(200, 300)


class AuditedRoute:
    """Has the requests of a route answered, and their changes recorded.

    Args:
        audit: How they become rows.
        proxy: Answers them.
        attempts: Ends what the proxy has begun.
        look: For ``previous: get``.
    """

    __slots__ = ("_attempts", "_audit", "_look", "_proxy", "_waits")

    def __init__(self, audit: AuditPlan, *, proxy: Proxy, attempts: Attempts, look: Look) -> None:
        self._audit = audit
        self._proxy = proxy
        self._attempts = attempts
        self._look = look
        self._waits = audit.required or audit.reads_previous

    def __repr__(self) -> str:
        return f"<AuditedRoute {self._audit}>"

    def audits(self, method: bytes) -> bool:
        """Whether requests with this method make rows here."""
        return self._audit.audits(method)

    async def run(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            AuditUnavailable: There would be no row for the change, which was therefore not made.
            SidecarError, ClientGone: As without an audit trail.
        """
        trail = exchange.trail = Trail(self._audit, exchange, self._look)
        try:
            if self._waits or exchange.key is not None:
                await self._answer(exchange, trail)
            else:
                trail.begun = True
                await self._proxy.forward(exchange)
                trail.relayed()
        except BaseException as error:
            await trail.fail()
            raise error  # noqa: TRY201 - compiled, what is being handled is forgotten over an await
        finally:
            exchange.trail = None  # or each would keep the other until the garbage collector comes

    async def _answer(self, exchange: Exchange, trail: Trail) -> None:
        if exchange.key is not None:
            await self._proxy.keyed.run(exchange)
        elif self._audit.required:
            await self._hold(exchange, trail)
        else:
            await trail.begin()
            await self._proxy.forward(exchange)
            trail.relayed()

    async def _hold(self, exchange: Exchange, trail: Trail) -> None:
        """Let the client see the end of the response when the outcome is on the disk."""
        await trail.begin()
        response = await self._proxy.send(exchange)
        try:
            if response.status == _SWITCHING:
                dropping = asyncio.ensure_future(trail.drop())
                await self._proxy.forward(exchange, response)  # the tunnel waits for no disk
                await dropping
            elif is_event_stream(response):
                await trail.end(response, None)
                await self._proxy.forward(exchange, response)
            else:
                await self._collect(exchange, trail, response)
        except BaseException as error:
            self._attempts.end(exchange, error)
            raise

    async def _collect(self, exchange: Exchange, trail: Trail, response: ResponseHead) -> None:
        collector = Collector(self._proxy, exchange, response, keep=self._audit.capture_limit)
        if not collector.take():
            await exchange.wait()
        trailers = collector.trailers
        self._attempts.end(exchange, None)
        exchange.arm(None, "total")
        body = collector.body()
        await trail.end(response, body)
        collector.answer(body, trailers)


class Trail:
    """What the audit trail learns of one exchange: its beginning, and one of its ends.

    Args:
        audit: How the exchange becomes a row.
        exchange: The exchange.
        look: Reads what was there before.

    Attributes:
        begun: Whether the request may have been sent: from then on it must have an end.
    """

    __slots__ = (
        "_audit",
        "_done",
        "_exchange",
        "_intent",
        "_look",
        "_pieces",
        "_previous",
        "_room",
        "_seen",
        "begun",
    )

    def __init__(self, audit: AuditPlan, exchange: Exchange, look: Look) -> None:
        self._audit = audit
        self._exchange = exchange
        self._look = look
        self.begun = False
        self._done = False
        self._intent: Intent | None = None
        self._previous: Message | None = None
        self._seen: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._room = audit.capture_limit

    def __repr__(self) -> str:
        return f"<Trail of {self._exchange} by {self._audit}>"

    # --- the beginning ----------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Do what must be done before the request is sent; only ``required`` and ``previous: get`` wait.

        Raises:
            AuditUnavailable: The intent could not be made durable.
            SidecarError: ``required``, and what was there before could not be read.
            ClientGone: The client has broken off.
        """
        audit = self._audit
        if audit.required and audit.reads_request:
            await self._read_request()
        if audit.reads_previous:
            self._previous = await self._read_previous()
        if audit.required:
            self._intent = self._take_down()
            await audit.secure(self._intent)
        self.begun = True

    async def _read_request(self) -> None:
        """Have the whole body at hand, if it is not too long to be kept."""
        exchange, limit = self._exchange, self._audit.capture_limit
        length = exchange.head.length
        if exchange.body.done or (length is not None and length > limit):
            return
        if exchange.body.forwards_expect:
            exchange.body.answer_expect()
        await exchange.body.read(limit + 1)
        exchange.arm(None, "total")

    async def _read_previous(self) -> Message | None:
        """What a GET finds; ``None`` if it finds nothing, or no working upstream."""
        try:
            answer = await self._look(self._exchange, self._audit.capture_limit)
        except SidecarError:
            if self._audit.required:
                raise  # not NULL, which would say that nothing was there
            return None
        return Message(answer.body, answer.coding) if answer.status in _SUCCESSES else None

    def _take_down(self) -> Intent:
        """What the request says."""
        exchange, audit = self._exchange, self._audit
        head = exchange.head
        body: bytes | None = b""
        coding = None
        if audit.reads_request:
            received = exchange.body
            whole = received.done and received.replayable and exchange.bytes_in <= audit.capture_limit
            body = received.kept if whole else None
            coding = head.value(b"content-encoding")
        return audit.begin(
            head.method,
            exchange.correlation_id,
            head.value,
            header_size=len(head.fields.raw),
            path=exchange.parameters,
            body=body,
            coding=coding,
            previous=self._previous,
        )

    # --- a response that passes -------------------------------------------------------------------------

    def tap(self, response: ResponseHead, first: bytes) -> Callable[[bytes], None]:
        """Look at a response on its way to the client; returns what passes on the rest of its body."""
        deliver = self._exchange.deliver
        if self._done:
            return deliver
        self._seen = response
        if is_event_stream(response):
            self._finish(response, None)
        elif self._audit.reads_response:
            self._add(first)
            return self._deliver
        return deliver

    def relayed(self) -> None:
        """The response has passed, to its end."""
        if self._seen is not None and not self._done:  # after a 101 there is none
            self._finish(self._seen, b"".join(self._pieces) if self._room >= 0 else None)

    def _deliver(self, payload: bytes) -> None:
        self._add(payload)
        self._exchange.deliver(payload)

    def _add(self, payload: bytes) -> None:
        """Keep a piece of the body, or nothing of one that is too long."""
        self._room -= len(payload)
        if self._room >= 0:
            self._pieces.append(payload)
        else:
            self._pieces.clear()

    # --- the end ----------------------------------------------------------------------------------------

    async def end(self, response: ResponseHead, body: bytes | None) -> None:
        """The request is answered; in ``required`` mode, return when the outcome is durable.

        Args:
            response: The answer's head.
            body: Its whole body; ``None`` if it was not kept.
        """
        if self._intent is None:
            self._finish(response, body)
            return
        self._done = True
        if self._audit.reads_response:
            await self._audit.settle(self._intent, response.status, body, _coding(response))
        else:
            await self._audit.settle(self._intent, response.status)

    async def drop(self) -> None:
        """There will be no answer that could make a row."""
        self._done = True
        if self._intent is not None:
            await self._audit.withdraw(self._intent)

    async def fail(self) -> None:
        """The exchange has failed: nobody knows what became of a request that was sent.

        In ``best_effort`` this waits for nothing, so that an exchange that is being cancelled can call it.
        """
        if self._done or not self.begun:
            return
        if not self._exchange.sent:
            await self.drop()
            return
        self._done = True
        if self._intent is None:
            self._audit.finish(self._take_down(), None)
        else:
            await self._audit.settle(self._intent, None)

    def _finish(self, response: ResponseHead, body: bytes | None) -> None:
        self._done = True
        if self._audit.reads_response:
            self._audit.finish(self._take_down(), response.status, body, _coding(response))
        else:
            self._audit.finish(self._take_down(), response.status)


def _coding(response: ResponseHead) -> bytes | None:
    """The response's ``Content-Encoding``."""
    values = response.special.get(b"content-encoding")
    return b", ".join(values) if values is not None else None
