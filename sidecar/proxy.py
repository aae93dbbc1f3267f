"""What happens to a request, from its head to its end.

::

    admit     correlation, trace, route, in-flight count; nothing is awaited
    claim     only with a key: `keyed.py` decides between executing, replaying and refusing
    attempt   bulkhead, breaker, connection, the request; again where that is safe (`attempts.py`)
    relay     the response's head and body, as fast as the client takes them
    finish    exactly once: permits, metrics, span, access line
"""

from __future__ import annotations

import asyncio
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final

from sidecar.attempts import Attempts
from sidecar.correlation import choose
from sidecar.digits import decimal
from sidecar.errors import (
    ClientGone,
    LoopDetected,
    NoRoute,
    SidecarError,
    UpstreamProtocolError,
)
from sidecar.exchange import Exchange
from sidecar.ids import random_hex, two_uuid7_octets
from sidecar.keyed import Keyed
from sidecar.local_replies import OpenCircuitAnswer, answer_error, reason_of, refuse
from sidecar.net.deadlines import NEVER
from sidecar.net.server import Handler
from sidecar.net.upstream import CLIENT_SIDE
from sidecar.reply import DATE
from sidecar.request_body import too_large
from sidecar.responses import is_event_stream
from sidecar.tracing.baggage import valid_baggage
from sidecar.tracing.context import admit, begin
from sidecar.tracing.facts import ExchangeRecord
from sidecar.wire.body import chunk, last_chunk
from sidecar.wire.writer import response_head

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.dlq.hook import DeadLetterHook
    from sidecar.idempotency.engine import Engine
    from sidecar.log import Log
    from sidecar.metrics.names import Metrics
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.server import Listener, ServerConnection
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.pipeline import Pipeline
    from sidecar.tracing.sampling import Sampler
    from sidecar.tracing.tracer import Tracer
    from sidecar.wire.head import RequestHead, ResponseHead

_SWITCHING: Final = 101
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
_FAULT: Final = 500
_CLIENT_CLOSED: Final = 499  # nginx's word for a client that went away before it was answered


def new_name() -> bytes:
    """A sidecar's name in ``Via``, new at every start: two in a row are no loop, the same one twice is."""
    return b"sidecar-" + random_hex(6).encode()


class Proxy(Handler):
    """Answers requests by one configuration.

    Attributes:
        pipeline: The configuration in force; replaced as a whole on reload.
        active: Requests being answered.
        dead_letters: Keeps requests that find no working upstream, where a route wants that.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        engine: Engine,
        metrics: Metrics,
        log: Log,
        deadlines: Deadlines,
        sampler: Sampler,
        tracer: Tracer | None,
        name: bytes,
    ) -> None:
        self.pipeline = pipeline
        self.active = 0
        self.dead_letters: DeadLetterHook | None = None
        self._log = log
        self._deadlines = deadlines
        self._sampler = sampler
        self._tracer = tracer
        self._loop = asyncio.get_running_loop()
        self._attempts = Attempts(metrics)
        self._open_circuit = OpenCircuitAnswer()
        self.keyed = Keyed(self, engine, self._attempts)
        self._name = name
        self._via = b"1.1 " + name
        self._hop = {
            scheme: b"Via: %b\r\nX-Forwarded-Proto: %b\r\n" % (self._via, scheme.encode())
            for scheme in ("http", "https")
        }

    async def handle(self, connection: ServerConnection, head: RequestHead) -> None:
        """Answer one request."""
        exchange = Exchange(connection, head, self._loop, self._deadlines)
        self.active += 1
        try:
            try:
                self._admit(exchange)
                plan = exchange.plan
                refusing = plan.upstream.refusing and exchange.key is None
                if refusing and (seconds := self._attempts.refusal(exchange)):
                    self._open_circuit.give(exchange, seconds)
                else:
                    self._enter(exchange)
                    if plan.audit is not None and plan.audit.audits(head.method):
                        await plan.audit.run(exchange)
                    elif exchange.key is not None:
                        await self.keyed.run(exchange)
                    else:
                        await self.forward(exchange)
            except SidecarError as error:
                if (
                    self.dead_letters is not None
                    and exchange.metrics is not None
                    and exchange.plan.dead_letter
                ):
                    await self._loop.create_task(self.dead_letters.keep(exchange, error))
                answer_error(exchange, error)
            except ClientGone as gone:
                self._client_gone(exchange, gone.reason)
        except BaseException as error:
            self._break_off(exchange, error)
            raise
        finally:
            self.active -= 1
            connection.end_exchange()
        self.finish(exchange)

    def _break_off(self, exchange: Exchange, error: BaseException) -> None:
        """The drain's time is up, or there is a fault of our own, which is not to hold anything for ever."""
        self._attempts.end(exchange, error)
        exchange.detach_upstream()
        if isinstance(error, asyncio.CancelledError):
            exchange.status = exchange.status or _CLIENT_CLOSED
            exchange.reason = "drain_timeout"
        else:
            exchange.status = exchange.status or _FAULT
            exchange.reason = "fault"
        exchange.connection.abort()
        self.finish(exchange)

    def _client_gone(self, exchange: Exchange, reason: str) -> None:
        """Nobody is left to answer."""
        exchange.detach_upstream()
        exchange.status = exchange.status or _CLIENT_CLOSED
        exchange.reason = reason
        exchange.connection.abort()

    def refuse(self, connection: ServerConnection, error: SidecarError) -> None:
        """Answer what is not a request."""
        refusal = refuse(connection, error)
        metrics = self.pipeline.unmatched
        metrics.started()
        metrics.ended(refusal.method, error.answer_status, 0.0)
        self._log.access(
            method=refusal.method,
            target=refusal.target,
            route=metrics.route,
            status=error.answer_status,
            bytes_in=0,
            bytes_out=refusal.bytes_out,
            duration_ms=0.0,
            attempts=0,
            upstream_host="",
            idempotency="",
            breaker="",
            reason=reason_of(error),
            correlation_id=refusal.correlation_id,
            trace_id=b"",
        )

    def crashed(self, error: BaseException) -> None:
        """Tell of a fault of our own."""
        self._log.crash("connection failed", error)

    # --- admit ------------------------------------------------------------------------------------------

    def _admit(self, exchange: Exchange) -> None:
        head, connection = exchange.head, exchange.connection
        special, listener = head.special, connection.listener
        correlation_id, request_id = two_uuid7_octets()
        if head.fields.identified:
            correlation_id = _chosen(special.get(listener.correlation_field), correlation_id, listener)
            request_id = _chosen(special.get(b"x-request-id"), request_id, listener)
        exchange.correlation_id = correlation_id
        exchange.added = listener.id_fields(correlation_id, request_id)
        if head.fields.identified and b"traceparent" in special:
            states = special.get(b"tracestate", ())
            trace = exchange.trace = admit(special[b"traceparent"], states, self._sampler)
        else:
            trace = exchange.trace = begin(self._sampler)
        if trace.sampled and self._tracer is not None:
            exchange.started_ns = time_ns()
            exchange.attempt_records = []
        if head.fields.forwarded and any(self._name in value for value in special.get(b"via", ())):
            raise LoopDetected("the request has passed through this sidecar before", reason="via")
        method = head.method
        found = self.pipeline.router.match(listener.name, head.host, method, head.path, plain=head.plain_path)
        if found is None:
            raise NoRoute("no route matches the request", reason="no_route")
        plan, exchange.parameters = found
        exchange.plan = exchange.destination = plan
        exchange.metrics = plan.metrics
        plan.metrics.started()
        limit = connection.limits.body
        if limit is not None and head.length is not None and head.length > limit:
            raise too_large(limit)
        if method in plan.protected:
            self._read_key(exchange)
        elif b"idempotency-key" in special and not plan.policy.enabled:
            self.note_unprotected(exchange)
        connection.start_exchange(exchange)

    def _enter(self, exchange: Exchange) -> None:
        """The request is on its way to an upstream: its time runs, and the retry budget counts it."""
        plan = exchange.plan
        exchange.entered = True
        plan.upstream.budget.request_started()
        if plan.total is not None:
            exchange.total_deadline = self._loop.time() + plan.total

    def _read_key(self, exchange: Exchange) -> None:
        plan, head = exchange.plan, exchange.head
        try:
            exchange.key = plan.policy.read_key(head.special.get(b"idempotency-key", ()))
        except SidecarError as error:
            self.count_key(exchange, error.reason)
            raise
        if exchange.key is not None and head.upgrade is not None:
            exchange.key = None
            self.note_unprotected(exchange)

    # --- relay ------------------------------------------------------------------------------------------

    async def forward(self, exchange: Exchange, response: ResponseHead | None = None) -> None:
        """Send the request upstream and relay the response, or one whose head has been received already."""
        if response is None:
            response = await self._attempts.send(exchange, self._request_fields(exchange))
        try:
            if response.status == _SWITCHING:
                await self._tunnel(exchange, response)
            elif not self._relay_at_once(exchange, response):
                await exchange.wait()
                if exchange.writes_chunks:
                    self._end_chunks(exchange)
        except BaseException as error:
            self._attempts.end(exchange, error)
            raise
        self._attempts.end(exchange, None)

    def send(self, exchange: Exchange) -> Coroutine[Any, Any, ResponseHead]:
        """Send the request upstream and return the head of its response; :meth:`Attempts.end` ends it."""
        return self._attempts.send(exchange, self._request_fields(exchange))

    def _request_fields(self, exchange: Exchange) -> bytes:
        """The field lines that the sidecar adds to a request, beside those of a single attempt."""
        head, connection = exchange.head, exchange.connection
        if head.host and not head.fields.forwarded:
            return b"%bX-Forwarded-For: %b\r\n%bX-Forwarded-Host: %b\r\n" % (
                exchange.added,
                connection.peer,
                self._hop[connection.listener.scheme],
                head.host,
            )
        special = head.special
        lines = b"X-Forwarded-For: %b\r\nVia: %b\r\n" % (
            b", ".join([*special.get(b"x-forwarded-for", ()), connection.peer]),
            b", ".join([*special.get(b"via", ()), self._via]),
        )
        if b"x-forwarded-proto" not in special:
            lines += connection.listener.proto_field
        if b"x-forwarded-host" not in special and head.host:
            lines += b"X-Forwarded-Host: %b\r\n" % head.host
        for value in valid_baggage(special.get(b"baggage", ())):
            lines += b"baggage: %b\r\n" % value
        return exchange.added + lines

    def _relay_at_once(self, exchange: Exchange, response: ResponseHead) -> bool:
        """Pass on what has arrived of the response; whether that was all of it."""
        upstream, connection = exchange.upstream, exchange.connection
        assert upstream is not None
        body = upstream.reader.body
        first = upstream.take_body()
        done = body.done
        if done and upstream.reader.buffer:
            self.check_surplus(upstream)
        trail = exchange.trail
        tapped = None if trail is None else trail.tap(response, first)
        head = self.response_head(exchange, response)
        exchange.head_sent = True
        if not done:
            connection.write(head)
            self.watch_stream(exchange, response)
            if first:
                exchange.deliver(first)
            upstream.relay_body(tapped or exchange.deliver)
            return False
        exchange.bytes_out = len(first)
        if exchange.writes_chunks:
            first = (chunk(first) if first else b"") + last_chunk(body.trailers)
        connection.write(head + first)
        return True

    @staticmethod
    def _end_chunks(exchange: Exchange) -> None:
        assert exchange.upstream is not None
        exchange.connection.write(last_chunk(exchange.upstream.reader.body.trailers))

    @staticmethod
    def check_surplus(upstream: UpstreamConnection) -> None:
        """Refuse a response with octets behind its end (nothing of it has been passed on yet)."""
        if upstream.reader.buffer:
            raise UpstreamProtocolError(
                "there are octets behind the end of the response", reason="surplus", sent=True
            )

    def watch_stream(self, exchange: Exchange, response: ResponseHead) -> None:
        """Have the timeouts of a body that is still to come; event streams have ``idle`` alone."""
        if is_event_stream(response):
            exchange.total_deadline = NEVER
            self._attempts.is_stream(exchange)
        exchange.expect_response_data(exchange.timeouts.idle)

    def response_head(self, exchange: Exchange, response: ResponseHead) -> bytes:
        """The head of the upstream's response as the client gets it (RFC 9112, sections 6 and 9.3)."""
        connection, request = exchange.connection, exchange.head
        status = exchange.status = response.status
        minor = request.minor
        if connection.listener.draining or not exchange.body.done:
            connection.persistent = False
        declared = response.declared
        if declared is not None and status != _NO_CONTENT:  # RFC 9110, section 8.6: no length in a 204
            framing = b"Content-Length: %b\r\n" % decimal(declared)
        elif response.length is not None:
            bodiless = request.method == b"HEAD" or status in (_NO_CONTENT, _NOT_MODIFIED)
            framing = b"" if bodiless else b"Content-Length: 0\r\n"
        elif minor:
            exchange.writes_chunks = True
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            connection.persistent = False
            framing = b""
        if not connection.persistent:
            framing += b"Connection: close\r\n"
        elif not minor:
            framing += b"Connection: keep-alive\r\n"
        if b"date" not in response.special:  # RFC 9110, section 6.6.1
            framing += DATE.line()
        return response_head(response, framing, exchange.added + exchange.notes)

    async def _tunnel(self, exchange: Exchange, response: ResponseHead) -> None:
        """After a 101, octets pass both ways until both sides have closed (RFC 9110, section 7.8)."""
        connection, upstream = exchange.connection, exchange.upstream
        assert upstream is not None
        exchange.status = response.status
        exchange.head_sent = True
        connection.persistent = False
        wanted = b", ".join(response.values(b"upgrade")) or exchange.head.upgrade or b""
        switch = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % wanted
        connection.write(response_head(response, switch, exchange.added + exchange.notes))
        response.persistent = False
        exchange.total_deadline = NEVER
        self._attempts.is_stream(exchange)
        exchange.expect_response_data(exchange.timeouts.idle)
        more = upstream.open_tunnel(exchange.deliver_raw)
        early = connection.open_tunnel(upstream)
        if early:
            upstream.write(early)
        if connection.half_closed:
            exchange.tunnel_half_closed(CLIENT_SIDE)
        if more:
            await exchange.wait()

    # --- keys -------------------------------------------------------------------------------------------

    @staticmethod
    def count_key(exchange: Exchange, result: str) -> None:
        """Say what came of the key, in the metric and the access line."""
        cell = exchange.plan.results.get(result)
        if cell is not None:  # else the request broke off before its key was looked at
            exchange.idempotency = result
            cell.value += 1

    def note_unprotected(self, exchange: Exchange) -> None:
        """The key protects nothing here, and the client is told."""
        exchange.notes += b"X-Idempotency-Status: unprotected\r\n"
        self.count_key(exchange, "unprotected")

    # --- finish -----------------------------------------------------------------------------------------

    def finish(self, exchange: Exchange) -> None:
        """The exchange is over: count it, log it, trace it."""
        exchange.end()
        duration = (monotonic() - exchange.started) * 1000.0
        head, trace = exchange.head, exchange.trace
        metrics = exchange.metrics
        if metrics is None:
            metrics = self.pipeline.unmatched
            metrics.started()
        elif exchange.entered:
            exchange.plan.upstream.budget.request_ended()
        sampled = exchange.attempt_records is not None
        metrics.ended(head.method, exchange.status, duration, trace.trace_id if sampled else "")
        host = exchange.upstream_host
        self._log.access(
            head.method,
            head.path,
            metrics.route,
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
            duration,
            exchange.attempts,
            "" if host is None else host.label,
            exchange.idempotency,
            exchange.breaker,
            exchange.reason,
            exchange.correlation_id,
            trace.digits,
        )
        if sampled:
            self._trace(exchange, metrics.route, "" if exchange.metrics is None else exchange.plan.template)

    def _trace(self, exchange: Exchange, route: str, template: str) -> None:
        head, connection = exchange.head, exchange.connection
        assert self._tracer is not None
        agents = head.values(b"user-agent")
        self._tracer.exchange(
            ExchangeRecord(
                context=exchange.trace,
                start_ns=exchange.started_ns,
                end_ns=time_ns(),
                method=head.method,
                target=head.target,
                route=route,
                template=template,
                status=exchange.status,
                correlation_id=exchange.correlation_id,
                authority=head.host,
                scheme=connection.listener.scheme,
                version=f"1.{head.minor}",
                client=connection.peer.decode(),
                user_agent=agents[0] if agents else b"",
                request_bytes=exchange.bytes_in,
                response_bytes=exchange.bytes_out,
                idempotency=exchange.idempotency,
                reason=exchange.reason.partition(":")[0],
                retry_skipped=exchange.retry_skipped,
                attempts=exchange.attempt_records or [],
                links=exchange.links,
            )
        )


def _chosen(given: list[bytes] | None, made: bytes, listener: Listener) -> bytes:
    """The id that the caller gave, if it is one, else the one made for the request."""
    return made if given is None else choose(given, trust=listener.trust_ids)
