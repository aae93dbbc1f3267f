"""Requests that the sidecar itself begins: events that it delivers, dead letters that it sends again.

They go the way of every other request, through the bulkhead, breakers, pools, timeouts and retries of their
upstream. What is missing is a client.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.attempts import Attempts
from sidecar.correlation import is_valid
from sidecar.errors import BadRequest
from sidecar.exchange import Exchange
from sidecar.ids import random_hex, uuid7_octets
from sidecar.net.nobody import Nobody
from sidecar.net.server import ClientLimits, Listener
from sidecar.pipeline import Destination, correlation_fields
from sidecar.spans import Purpose, child_of
from sidecar.wire.fields import REMOVED, REQUEST_FIELDS, FieldRules, Fields
from sidecar.wire.head import Limits, RequestHead
from sidecar.wire.reader import RequestReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.metrics.names import Metrics
    from sidecar.net.deadlines import Deadlines
    from sidecar.pipeline import Plan
    from sidecar.proxy import Proxy
    from sidecar.spans import Spans
    from sidecar.tracing.context import TraceContext
    from sidecar.tracing.facts import AttemptRecord
    from sidecar.wire.head import ResponseHead


# Accept-Encoding: the answer is read here. With a range or a condition it would not be the whole state.
_NOT_IN_A_GET: Final = (b"accept-encoding:", b"content-", b"idempotency-key:", b"if-", b"range:", b"trailer:")
_OF_THE_CLIENT: Final = frozenset((b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: The response's.
        body: Its body as far as it was wanted, or ``None`` if it was longer than that.
        coding: The body's ``Content-Encoding``.
    """

    status: int
    body: bytes | None
    coding: bytes | None = None


class NoSuchUpstreamError(Exception):
    """The configuration has no upstream of this name any more."""


class InternalCalls:
    """Sends requests of the sidecar's own.

    Args:
        proxy: Knows the configuration in force, and what protects keyed requests.
        metrics: Where figures go.
        deadlines: What watches over time.
        spans: Takes those of the calls.
    """

    def __init__(
        self,
        proxy: Proxy,
        *,
        metrics: Metrics,
        deadlines: Deadlines,
        spans: Spans,
    ) -> None:
        self._proxy = proxy
        self._attempts = Attempts(metrics)
        self._deadlines = deadlines
        self._spans = spans
        self._loop = asyncio.get_running_loop()
        self._listener = _listener(proxy, deadlines)

    def plan(self, route: str) -> Plan | None:
        """The plan of a route, if there is still one of this name."""
        return next((plan for plan in self._proxy.pipeline.plans if plan.name == route), None)

    async def call(
        self,
        upstream: str,
        head: RequestHead,
        body: bytes,
        purpose: Purpose,
        *,
        correlation_id: str = "",
        wanted: int = 0,
    ) -> Answer:
        """Send a request to an upstream.

        Args:
            upstream: Its name.
            head: From :func:`request_to`.
            body: The content, as long as the head says.
            purpose: What it is for.
            correlation_id: Sent along; a fresh one where it is empty or malformed.
            wanted: Octets of the response's body to keep.

        Raises:
            NoSuchUpstreamError: There is none.
            BulkheadFull, CircuitOpen, UpstreamError: There was no whole answer.
        """
        found = self._proxy.pipeline.upstreams.get(upstream)
        if found is None:
            raise NoSuchUpstreamError(f"there is no upstream {upstream!r} any more")
        exchange = self._exchange(head, body, Destination(found), purpose, correlation_id)
        with self._under_way(exchange, purpose):
            response = await self._attempts.send(exchange, exchange.added)
            return Answer(response.status, await self._read(exchange, response, wanted))

    async def repeat(
        self,
        plan: Plan,
        head: RequestHead,
        body: bytes,
        purpose: Purpose,
        *,
        correlation_id: str,
        claim: str = "",
    ) -> int:
        """Send a client's request once more, by its route; the status of the answer.

        Args:
            plan: The route's.
            head: From :meth:`parse`.
            body: The content, as long as the head says.
            purpose: What it is for.
            correlation_id: The request's.
            claim: Id of the record that protects its key, or empty for the one that follows from the head.

        Raises:
            SidecarError: There was no answer, or the key does not allow one.
        """
        exchange = self._exchange(head, body, plan, purpose, correlation_id)
        exchange.plan = plan
        _restore_peer(exchange)
        if plan.policy.applies(head.method):
            exchange.key = plan.policy.read_key(head.values(b"idempotency-key"))
            exchange.claim = claim
        with self._under_way(exchange, purpose):
            if plan.audit is not None and plan.audit.audits(head.method):
                await plan.audit.run(exchange)
            elif exchange.key is not None:
                await self._proxy.keyed.run(exchange)
            else:
                response = await self._proxy.send(exchange)
                exchange.status = response.status
                await self._read(exchange, response, 0)
        return exchange.status

    async def look(self, exchange: Exchange, wanted: int) -> Answer:
        """GET what a client's request is about to change, by its route and with its credentials.

        Args:
            exchange: The client's.
            wanted: Octets of the response's body to keep.

        Raises:
            BulkheadFull, CircuitOpen, UpstreamError: There was no whole answer.
        """
        purpose = Purpose("read state before change", "internal")
        own = self._exchange(
            _get_of(exchange),
            b"",
            exchange.plan,
            purpose,
            exchange.correlation_id.decode(),
            trace=child_of(exchange.trace),
        )
        own.connection.peer = exchange.connection.peer
        own.total_deadline = min(own.total_deadline, exchange.total_deadline)
        with self._under_way(own, purpose):
            response = await self._proxy.send(own)
            codings = response.values(b"content-encoding")
            body = await self._read(own, response, wanted)
            return Answer(response.status, body, b", ".join(codings) if codings else None)

    def parse(self, raw: bytes, length: int) -> RequestHead:
        """The head that ``raw`` is, as if a client had sent it with a body of ``length`` octets.

        Raises:
            SidecarError: It breaks the rules that clients' requests are held to.
        """
        settings = self._proxy.pipeline.settings
        rules = FieldRules({**REQUEST_FIELDS, **dict.fromkeys(correlation_fields(settings), REMOVED)})
        reader = RequestReader(rules, Limits())
        reader.push(raw)
        head = reader.next_head()
        if head is None or reader.buffer:
            raise BadRequest("the request's head is not whole", reason="framing")
        if head.length != 0 or head.upgrade is not None:
            raise BadRequest("the request has fields that belong to its connection", reason="framing")
        _set_length(head, length)
        return head

    # --- the exchange -----------------------------------------------------------------------------------

    def _exchange(
        self,
        head: RequestHead,
        body: bytes,
        destination: Destination,
        purpose: Purpose,
        correlation_id: str,
        *,
        trace: TraceContext | None = None,
    ) -> Exchange:
        connection = Nobody(self._listener)
        exchange = Exchange(connection, head, self._loop, self._deadlines)
        exchange.has_task = True
        exchange.destination = destination
        given = correlation_id.encode("utf-8", "replace")
        exchange.correlation_id = given if is_valid(given) else uuid7_octets()
        self._listener.name_ids(self._proxy.pipeline.settings.correlation.header)
        exchange.added = self._listener.id_fields(exchange.correlation_id, uuid7_octets())
        exchange.trace = trace or self._spans.begin(purpose.linked)
        if self._spans.is_recorded(exchange.trace):
            exchange.started_ns = time.time_ns()
            exchange.attempt_records = []
        total = destination.total
        if total is not None:
            exchange.total_deadline = self._loop.time() + total
        connection.start_exchange(exchange)
        if body:
            exchange.body.arrived(body, done=True)
        return exchange

    @contextmanager
    def _under_way(self, exchange: Exchange, purpose: Purpose) -> Iterator[None]:
        """Count the exchange among the upstream's requests, and trace it when it has ended."""
        budget = exchange.destination.upstream.budget
        budget.request_started()
        error = ""
        try:
            yield
        except BaseException as failed:
            error = str(getattr(failed, "reason", "")) or type(failed).__name__
            raise
        finally:
            exchange.detach_upstream()
            exchange.end()
            exchange.connection.end_exchange()
            budget.request_ended()
            if exchange.attempt_records is not None:
                self._export(exchange, purpose, error, exchange.attempt_records)

    def _export(
        self, exchange: Exchange, purpose: Purpose, error: str, attempts: Sequence[AttemptRecord]
    ) -> None:
        trace, head = exchange.trace, exchange.head
        self._spans.export(
            trace,
            purpose,
            exchange.started_ns,
            correlation_id=exchange.correlation_id.decode(),
            error=error,
        )
        self._spans.export_attempts(
            trace,
            attempts,
            method=head.method.decode("latin-1"),
            target=head.target.decode("latin-1"),
            correlation_id=exchange.correlation_id.decode(),
        )

    async def _read(self, exchange: Exchange, response: ResponseHead, wanted: int) -> bytes | None:
        """Take the response's body; what is over ``wanted`` octets is dropped."""
        upstream = exchange.upstream
        assert upstream is not None
        kept = _Kept(wanted)
        try:
            kept.add(upstream.take_body())
            if not upstream.reader.body.done:
                exchange.status = response.status
                exchange.expect_response_data(exchange.timeouts.idle)
                upstream.relay_body(kept.add)
                await exchange.wait()
        except BaseException as error:
            self._attempts.end(exchange, error)
            raise
        self._attempts.end(exchange, None)
        return kept.body()


class _Kept:
    """Keeps a body up to a size."""

    __slots__ = ("_pieces", "_size", "_wanted")

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._size = 0
        self._pieces: list[bytes] = []

    def add(self, payload: bytes) -> None:
        self._size += len(payload)
        if self._size <= self._wanted:
            self._pieces.append(payload)

    def body(self) -> bytes | None:
        return b"".join(self._pieces) if self._size <= self._wanted else None


def request_to(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], length: int
) -> RequestHead:
    """The head of a request of our own.

    Args:
        method: The method.
        target: Path and query, ASCII.
        headers: Fields without those of the connection; the caller vouches for their characters.
        length: Octets of the body.
    """
    keys = [value for name, value in headers if name == b"idempotency-key"]
    special = {b"idempotency-key": keys} if keys else {}
    fields = Fields.of([b"%b: %b" % field for field in headers], special, len(headers))
    head = RequestHead(method, target, 1, fields)
    _set_length(head, length)
    return head


def _get_of(exchange: Exchange) -> RequestHead:
    """A GET of a request's target: its fields, but for those that speak of its body or its conditions."""
    asked = exchange.head
    lines = [line for line in asked.fields.lines if not line.lower().startswith(_NOT_IN_A_GET)]
    special = {name: values for name, values in asked.special.items() if name in _OF_THE_CLIENT}
    if b"x-forwarded-proto" not in special:
        special[b"x-forwarded-proto"] = [scheme := exchange.connection.listener.scheme.encode()]
        lines.append(b"X-Forwarded-Proto: %b" % scheme)
    head = RequestHead(b"GET", asked.target, 1, Fields.of(lines, special, len(lines)))
    head.path = asked.path
    head.host = asked.host
    return head


def _set_length(head: RequestHead, length: int) -> None:
    head.length = length
    head.special = {**head.special, b"content-length": [b"%d" % length]}


def _restore_peer(exchange: Exchange) -> None:
    """Let the upstream see the addresses that it would have seen when the request came."""
    head, connection = exchange.head, exchange.connection
    special = head.special = dict(head.special)
    chain = special.pop(b"x-forwarded-for", [b"unknown"])
    *before, connection.peer = [address.strip() for address in b",".join(chain).split(b",")]
    if before:
        special[b"x-forwarded-for"] = before


def _listener(proxy: Proxy, deadlines: Deadlines) -> Listener:
    """What such exchanges have in common with those of a listener."""
    return Listener(
        f"internal-{random_hex(2)}",
        scheme="http",
        handler=proxy,
        limits=ClientLimits(head=Limits(), header_timeout=10.0, body_idle=30.0, keep_alive=75.0, body=None),
        rules=FieldRules(REQUEST_FIELDS),
        deadlines=deadlines,
        capacity=0,
        trust_ids=True,
        correlation_header=proxy.pipeline.settings.correlation.header,
    )
