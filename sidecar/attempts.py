"""Sending a request upstream: a permit, a host, a connection, and another try where that is safe."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from time import monotonic, time, time_ns
from typing import TYPE_CHECKING, Final

from sidecar.breaker.core import REFUSED
from sidecar.breaker.layout import PHASE
from sidecar.breaker.outcome import Outcome
from sidecar.bulkhead import waiting
from sidecar.digits import decimal
from sidecar.errors import BulkheadFull, CircuitOpen, UpstreamError, UpstreamUnreachable
from sidecar.exchange import FailedTry
from sidecar.failures import circuit_open, classify, outcome_of
from sidecar.metrics.outcomes import RETRY_OUTCOMES
from sidecar.net.deadlines import NEVER
from sidecar.retry.policy import DEDUPED_METHODS, FailedAttempt, Skip
from sidecar.tracing.facts import AttemptRecord
from sidecar.tracing.record import SpanEvent
from sidecar.wire.writer import request_head

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.metrics.cells import Counter
    from sidecar.metrics.names import Metrics
    from sidecar.upstreams import Upstream, UpstreamHost
    from sidecar.wire.head import ResponseHead

# An enumeration's members are looked up by a function of their class, for which every request would pay.
_GOOD: Final = Outcome.GOOD
_BREAKER_OPEN: Final = Skip.BREAKER_OPEN
_PHASES: Final = ("closed", "half_open", "open")
_KEPT_BODY: Final = 1024 * 1024  # a keyed body has been read whole up to this size; more is never needed


class Attempts:
    """The attempts of all exchanges: each takes from its upstream what :meth:`end` gives back."""

    def __init__(self, metrics: Metrics) -> None:
        self._retries = metrics.retries.children("outcome", RETRY_OUTCOMES)
        self._skipped = metrics.retry_skipped.children("reason", [skip.value for skip in Skip])
        self._skipped_as_open: Counter = self._skipped[Skip.BREAKER_OPEN]

    def refusal(self, exchange: Exchange) -> int:
        """Whole seconds for which no breaker lets the request pass, so that nothing is built for it; or 0."""
        plan = exchange.plan
        if not plan.fails_fast:
            return 0
        seconds = plan.upstream.balancer.refusal(exchange.started)
        if seconds:
            exchange.breaker = "open"
            exchange.retry_skipped = _BREAKER_OPEN
            self._skipped_as_open.value += 1
        else:
            plan.upstream.refusing = False
        return seconds

    async def send(self, exchange: Exchange, fields: bytes) -> ResponseHead:
        """Send the request, again where that is safe; the response's body is still to come.

        Args:
            exchange: The request's.
            fields: Field lines of our own that are the same for every attempt.

        Raises:
            BulkheadFull, CircuitOpen, UpstreamError: In vain.
            ClientGone, BadRequest, BodyTooLarge, RequestTimeout: The request broke off.
        """
        upstream = exchange.destination.upstream
        exchange.timeouts = upstream.timeouts
        if upstream.permits.try_acquire():
            exchange.held = upstream
        else:
            await self._queue(exchange, upstream)
        tried: UpstreamHost | None = None
        while True:
            response: ResponseHead | None = None
            error: UpstreamError | None = None
            self._check(exchange)
            try:
                head = self._start(exchange, upstream, tried, fields)
                if head is not None:
                    await self._connect(exchange, upstream, head)
                response = await exchange.wait()
            except UpstreamError as failed:
                self._failed(exchange, upstream, failed)
                error = failed
            except CircuitOpen:
                upstream = await self._fall_back(exchange, upstream)
                continue
            except BaseException:
                self._cancelled(exchange, upstream)
                self.leave(exchange)
                raise
            exchange.head_at = monotonic()
            if response is not None and upstream.is_final[response.status] and exchange.attempts == 1:
                return response
            pause = self._judge(exchange, upstream, response, error)
            if pause is None:
                if error is not None:
                    self.leave(exchange)
                    try:
                        raise error
                    finally:
                        del error  # or it and its traceback would keep each other, and the exchange
                assert response is not None
                return response
            tried = exchange.upstream_host
            await self._pause(exchange, pause)

    @staticmethod
    async def _queue(exchange: Exchange, upstream: Upstream) -> None:
        """Wait for a permit of the bulkhead; it is held until the response's body has ended."""
        waiter: waiting.Waiter = asyncio.get_running_loop().create_future()
        try:
            with exchange.interrupting(waiter):
                await waiting.acquire(upstream.permits, upstream.queue_timeout, waiter)
        except BulkheadFull as full:
            upstream.rejected[full.reason].value += 1
            raise
        exchange.held = upstream

    def _check(self, exchange: Exchange) -> None:
        """Raise what has gone wrong between two attempts, or in the queue before the first."""
        try:
            exchange.check()
        except BaseException:
            self.leave(exchange)
            raise

    async def _fall_back(self, exchange: Exchange, upstream: Upstream) -> Upstream:
        """Every breaker of ``upstream`` is open: the route's fallback, or the error that is being handled."""
        self._skip(exchange, Skip.BREAKER_OPEN)
        self.leave(exchange)
        fallback = exchange.destination.fallback
        if fallback is None or upstream is fallback:
            raise  # noqa: PLE0704 - called while the CircuitOpen is handled
        exchange.timeouts = fallback.timeouts
        if fallback.permits.try_acquire():
            exchange.held = fallback
        else:
            await self._queue(exchange, fallback)
        return fallback

    def _start(
        self, exchange: Exchange, upstream: Upstream, tried: UpstreamHost | None, fields: bytes
    ) -> bytes | None:
        """Begin an attempt: pick a host, take its breaker's permit, and write to an idle connection.

        Returns:
            The request's head where there is no idle connection, for :meth:`_connect`.

        Raises:
            CircuitOpen: No host lets the attempt pass.
        """
        now = monotonic() if exchange.attempts else exchange.started
        picked = upstream.balancer.pick(now, tried)
        if picked is None:
            upstream.refusing = True
            exchange.breaker = "open"
            raise circuit_open(upstream.balancer.retry_after(now))
        host, permit = picked
        exchange.upstream_host = host
        exchange.breaker = "closed" if not permit & PHASE else _PHASES[host.breaker.phase(now)]
        exchange.attempts += 1
        exchange.permit = permit
        exchange.attempt_started = now
        per_try = upstream.timeouts.per_try
        if per_try is not None:
            exchange.arm_try(per_try)
        head = self._head(exchange, upstream, host, fields)
        method = exchange.head.method
        connection = host.pool.take(surely=method in DEDUPED_METHODS or exchange.key is not None)
        if connection is None:
            return head
        exchange.attach(connection, head, _kept_octets(exchange, upstream))
        return None

    @staticmethod
    async def _connect(exchange: Exchange, upstream: Upstream, head: bytes) -> None:
        """Open a connection to the host that was picked, and write the request's head to it."""
        host = exchange.upstream_host
        assert host is not None
        # A task, because opening has a timeout of its own; it happens once in the life of a connection.
        opening = asyncio.get_running_loop().create_task(host.pool.open())
        try:
            with exchange.interrupting(opening):
                connection = await opening
            exchange.check()
        except BaseException:
            # Whoever is cancelled, or fails, in the turn of the loop in which it is open gives it back.
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                host.pool.put(opening.result())
            raise
        if connection.transport.is_closing():
            # It was closed as soon as it was open, as servers do that refuse a certificate under TLS 1.3.
            # Perhaps it knows that already: nobody would be told again.
            raise UpstreamUnreachable("the upstream closed the connection at once", reason="reset")
        exchange.attach(connection, head, _kept_octets(exchange, upstream))

    def _head(self, exchange: Exchange, upstream: Upstream, host: UpstreamHost, fields: bytes) -> bytes:
        head, trace = exchange.head, exchange.trace
        records = exchange.attempt_records
        if records is not None:
            span_id, parent = trace.child()
            url = host.url
            records.append(
                AttemptRecord(
                    span_id,
                    time_ns(),
                    0,
                    upstream.name,
                    "https" if url.is_tls else "http",
                    url.unix or url.host,
                    url.port,
                    breaker=exchange.breaker,
                )
            )
        else:
            parent = trace.child()[1] if trace.sampled else trace.traceparent
        if parent:
            fields = b"%btraceparent: %b\r\n" % (fields, parent)
            for state in trace.tracestate:
                fields += b"tracestate: %b\r\n" % state
        if exchange.total_deadline != NEVER:
            left = max(1, int(exchange.remaining() * 1000))
            fields = b"%bX-Request-Timeout-Ms: %b\r\n" % (fields, decimal(left))
        authority = host.authority if upstream.rewrites_host or not head.host else head.host
        return request_head(head, authority, fields, forward_expect=exchange.body.forwards_expect)

    # --- what comes of an attempt -----------------------------------------------------------------------

    def _failed(self, exchange: Exchange, upstream: Upstream, error: UpstreamError) -> None:
        """No response came."""
        now = monotonic()
        host, permit = exchange.upstream_host, exchange.permit
        assert host is not None
        outcome = outcome_of(error)
        if permit != REFUSED:
            exchange.permit = REFUSED
            before = self._phase(exchange, host)
            host.breaker.failed(permit, now, now - exchange.attempt_started, hard=True)
            self._count(exchange, upstream, outcome)
            if before >= 0:
                self._note_transition(exchange, host, before)
        self._record(exchange, exchange.status, error.reason or outcome)
        if exchange.destination.dead_letter:
            failed = FailedTry(time(), now - exchange.attempt_started, host.label, error)
            exchange.failures += (failed,)

    @staticmethod
    def _phase(exchange: Exchange, host: UpstreamHost) -> int:
        """The state of the host's breaker, for :meth:`_note_transition`; -1 where there is no span."""
        return host.breaker.phase(monotonic()) if exchange.attempt_records else -1

    @staticmethod
    def _note_transition(exchange: Exchange, host: UpstreamHost, before: int) -> None:
        """If it was this attempt that changed its breaker's state, its span tells of that."""
        records = exchange.attempt_records
        now = monotonic()
        if records and host.breaker.phase(now) != before:
            stats = host.breaker.stats(now)
            told = {"before": _PHASES[before], "after": stats.state.value, "cause": stats.reason.value}
            event = SpanEvent(time_ns(), "circuit breaker", {**told, **asdict(stats.counts)})
            records[-1].events.append(event)

    def _count(self, exchange: Exchange, upstream: Upstream, outcome: str) -> None:
        """An attempt has ended: once for each, whatever may still happen to its response."""
        upstream.attempts[outcome].value += 1
        if exchange.attempts > 1:
            self._retries["success" if outcome == "success" else "failure"].value += 1

    def _cancelled(self, exchange: Exchange, upstream: Upstream) -> None:
        """The attempt was given up for the client's sake; it says nothing of the upstream."""
        host = exchange.upstream_host
        if host is not None and exchange.permit != REFUSED:
            host.breaker.cancelled(exchange.permit)
            exchange.permit = REFUSED
            upstream.attempts["cancelled"].value += 1
        records = exchange.attempt_records
        if records and not records[-1].end_ns:
            # That a client leaves a stream is how streams end.
            self._record(exchange, exchange.status, "" if exchange.streaming else "cancelled")

    @staticmethod
    def _record(exchange: Exchange, status: int, error: str) -> None:
        records = exchange.attempt_records
        if records:
            last = records[-1]
            last.end_ns = time_ns()
            last.status = status
            last.error = error

    def _judge(
        self,
        exchange: Exchange,
        upstream: Upstream,
        response: ResponseHead | None,
        error: UpstreamError | None,
    ) -> float | None:
        """Whether to send again: the pause before that, or ``None``."""
        if response is not None:
            if upstream.is_final[response.status]:
                return None
            self._record(exchange, response.status, "")
            self._settle(exchange, upstream, response.status)
        if exchange.retrying:
            upstream.budget.retry_ended()
            exchange.retrying = False
        failure, retry_after = classify(exchange, upstream, response, error)
        verdict = upstream.retry.decide(
            FailedAttempt(
                failure=failure,
                number=exchange.attempts,
                method=exchange.head.method,
                keyed=b"idempotency-key" in exchange.head.special,
                upstream_dedupes=exchange.destination.upstream_dedupes,
                replayable=exchange.body.replayable,
                remaining=exchange.remaining(),
                retry_after=retry_after,
            ),
            upstream.budget,
        )
        if verdict.skip is not None:
            self._skip(exchange, verdict.skip)
            return None
        exchange.retrying = True
        return verdict.delay

    def _skip(self, exchange: Exchange, reason: Skip) -> None:
        exchange.retry_skipped = reason
        self._skipped[reason].value += 1

    def _settle(self, exchange: Exchange, upstream: Upstream, status: int) -> None:
        """Tell the breaker and the metric what an answer with ``status`` says of the host."""
        host, permit = exchange.upstream_host, exchange.permit
        assert host is not None
        outcome = upstream.outcomes[status]
        if permit != REFUSED:
            exchange.permit = REFUSED
            now = exchange.head_at
            duration = now - exchange.attempt_started
            before = self._phase(exchange, host)
            if outcome is _GOOD:
                host.breaker.succeeded(permit, now, duration)
                self._count(exchange, upstream, "success")
            else:
                host.breaker.failed(permit, now, duration, hard=outcome is Outcome.HARD_FAILURE)
                self._count(exchange, upstream, "failure_status")
            if before >= 0:
                self._note_transition(exchange, host, before)

    async def _pause(self, exchange: Exchange, seconds: float) -> None:
        """Wait before the next attempt; a client that goes away meanwhile, or a deadline, ends it."""
        exchange.drop_response()
        exchange.try_deadline = NEVER
        try:
            await exchange.pause(seconds)
        except BaseException:
            self.leave(exchange)
            raise

    def is_stream(self, exchange: Exchange) -> None:
        """The response may go on for hours: its permits are counted apart from now on."""
        upstream, response = exchange.held, exchange.upstream
        if upstream is not None and not exchange.streaming:
            exchange.streaming = True
            upstream.permits.begin_stream()
            if response is not None and response.response is not None:
                self._settle(exchange, upstream, response.response.status)
            if exchange.retrying:
                exchange.retrying = False
                upstream.budget.retry_ended()

    def end(self, exchange: Exchange, error: BaseException | None) -> None:
        """The response's body has ended, or ``error`` came before its end."""
        upstream, connection = exchange.held, exchange.upstream
        if upstream is None:
            return
        if error is None and connection is not None and connection.response is not None:
            status = connection.response.status
            if exchange.attempt_records is not None:
                self._record(exchange, status, "")
            self._settle(exchange, upstream, status)
            if upstream.adaptive is not None and not exchange.streaming:
                self._adapt(exchange, upstream)
            exchange.upstream = None
            connection.finish()
        else:
            exchange.detach_upstream()
            if isinstance(error, UpstreamError):
                self._failed(exchange, upstream, error)
                self._skip(exchange, Skip.RESPONSE_BEGUN)
            else:
                self._cancelled(exchange, upstream)
        if exchange.retrying or exchange.streaming:
            self.leave(exchange)
        else:
            exchange.held = None
            upstream.permits.release()

    @staticmethod
    def _adapt(exchange: Exchange, upstream: Upstream) -> None:
        permits, gradient = upstream.permits, upstream.adaptive
        assert gradient is not None
        latency = exchange.head_at - exchange.attempt_started
        limit = gradient.observe(exchange.head_at, latency, permits.in_use, permits.limit)
        if limit != permits.limit:
            permits.resize(limit)

    @staticmethod
    def leave(exchange: Exchange) -> None:
        """Give back the bulkhead's permit and the retry budget's place; harmless when nothing is held."""
        upstream = exchange.held
        if upstream is None:
            return
        exchange.held = None
        if exchange.retrying:
            exchange.retrying = False
            upstream.budget.retry_ended()
        if exchange.streaming:
            exchange.streaming = False
            upstream.permits.end_stream()
        else:
            upstream.permits.release()


def _kept_octets(exchange: Exchange, upstream: Upstream) -> int:
    """How much of the request's body is kept for another attempt, a dead letter, or the audit trail."""
    if exchange.key is not None or exchange.destination.keeps_body:
        return _KEPT_BODY
    return upstream.replay_body
