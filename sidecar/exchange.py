"""One request and its response, from the first octet to the last.

An exchange waits for one thing at a time: a response's head, then the end of its body. Whatever interrupts
that (a deadline, a client that goes away, an upstream that breaks off) arrives through :meth:`Exchange.fail`,
so that the coroutine that tells its story has one place to look.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sidecar.driver import PARK
from sidecar.errors import (
    BadRequest,
    BodyTooLarge,
    ClientGone,
    RequestTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from sidecar.net.deadlines import NEVER
from sidecar.net.upstream import UPSTREAM_SIDE
from sidecar.wire.body import chunk, last_chunk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from sidecar.audited import Trail
    from sidecar.idempotency.fingerprint import Fingerprinter
    from sidecar.metrics.route import RouteMetrics
    from sidecar.net.deadlines import Deadlines
    from sidecar.net.server import ServerConnection
    from sidecar.net.upstream import UpstreamConnection
    from sidecar.pipeline import Destination, Plan
    from sidecar.settings.model import Timeouts
    from sidecar.tracing.context import TraceContext
    from sidecar.tracing.facts import AttemptRecord
    from sidecar.tracing.record import Link
    from sidecar.upstreams import Upstream, UpstreamHost
    from sidecar.wire.head import RequestHead, ResponseHead

_HELD_OCTETS: Final = 64 * 1024
_CLIENT_SLOW: Final = "client_slow"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_INTERIM_PHRASES: Final = {100: b"Continue", 102: b"Processing", 103: b"Early Hints"}


class FailedTry(NamedTuple):
    """An attempt that got no response, on a route that keeps dead letters.

    Attributes:
        at: When it failed, in seconds since the Unix epoch.
        duration: Seconds that it took.
        host: Whom it was sent to.
        error: What happened.
    """

    at: float
    duration: float
    host: str
    error: UpstreamError


class Exchange:
    """Carries a request through the sidecar.

    Attributes:
        connection: The client's.
        head: The request's head.
        plan: The route's plan, once it is known; a call to an upstream that no route leads to has none.
        destination: Where it is sent: the plan, where there is one.
        parameters: The path parameters of the route's template.
        started: When the head was complete, in monotonic seconds.
        started_ns: The same in nanoseconds since the Unix epoch, where the request is sampled.
        correlation_id: Taken from the request or made.
        metrics: Figures of the route, once it is known.
        trace: Where the request stands in its trace.
        status: What the client got; 0 before.
        bytes_in: Octets of the request's body so far.
        bytes_out: Octets of the response's body so far.
        attempts: How often it was sent upstream, or tried to be.
        attempt_records: For spans, where the request is sampled.
        links: To spans of other traces.
        upstream_host: Host of the last attempt.
        idempotency: What came of the key; empty without one.
        claim: Id of the record that protects the key, once it is known.
        trail: What the audit trail learns of it, where it is audited.
        failures: Attempts without a response, for a dead letter.
        breaker: State of the host's breaker at the last attempt.
        reason: Code of a sidecar-made answer, in lower case.
        retry_skipped: Why a failed attempt was not tried again.
        sent: Whether any octet of the request may have reached an upstream.
        has_task: Whether it runs in a task, not in the coroutine of a client's connection.
        head_sent: Whether the client has been sent the response's head.
        request_sent: Whether the whole request has been written to the upstream.
        forwards_expect: Whether the upstream has been asked for a 100.
        detached: The client is gone, and the exchange goes on without it.
        total_deadline: When ``timeouts.total`` runs out, in the loop's time.
        timeouts: Those of the upstream that is asked.
        held: The upstream whose bulkhead's permit is held.
        permit: The permit of the host's breaker; 0 when it has been told the outcome.
        attempt_started: When the last attempt began, in monotonic seconds.
        head_at: When its response's head had come.
        retrying: Whether a place in the retry budget is held.
        streaming: Whether the permit is counted among the long-lived streams.
    """

    __slots__ = (
        "_awaits_body",
        "_deadlines",
        "_driver",
        "_failure",
        "_half_closed",
        "_hold_at_least",
        "_idle",
        "_idle_reason",
        "_keep",
        "_kept",
        "_kept_size",
        "_loop",
        "_timeout_reason",
        "_upstream_slow",
        "_waiter",
        "_work",
        "added",
        "attempt_records",
        "attempt_started",
        "attempts",
        "body_limit",
        "breaker",
        "bytes_in",
        "bytes_out",
        "claim",
        "connection",
        "correlation_id",
        "destination",
        "detached",
        "failures",
        "fingerprinter",
        "forwards_expect",
        "has_task",
        "head",
        "head_at",
        "head_sent",
        "held",
        "idempotency",
        "key",
        "links",
        "metrics",
        "notes",
        "outlives_client",
        "parameters",
        "permit",
        "plan",
        "reason",
        "request_done",
        "request_sent",
        "retry_skipped",
        "retrying",
        "sent",
        "started",
        "started_ns",
        "status",
        "streaming",
        "timeouts",
        "total_deadline",
        "trace",
        "trail",
        "try_deadline",
        "upstream",
        "upstream_host",
        "writes_chunks",
    )

    destination: Destination
    plan: Plan
    timeouts: Timeouts
    trace: TraceContext

    def __init__(  # noqa: PLR0915 - one line a slot
        self,
        connection: ServerConnection,
        head: RequestHead,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
    ) -> None:
        self._loop = loop
        self._deadlines = deadlines
        self._driver = connection.driver
        self._waiter: asyncio.Future[Any] | None = None
        self._work: asyncio.Future[Any] | None = None
        self._awaits_body = False
        self._failure: BaseException | None = None
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._keep = _HELD_OCTETS
        self._hold_at_least = _HELD_OCTETS
        self._idle: float | None = None
        self._idle_reason = "idle"
        self._upstream_slow = False
        self._timeout_reason = ""
        self._half_closed = ""
        self.connection = connection
        self.head = head
        self.parameters: dict[str, bytes] = {}
        self.started = monotonic()
        self.started_ns = 0
        self.correlation_id = b""
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.body_limit: int | None = None
        self.attempts = 0
        self.attempt_records: list[AttemptRecord] | None = None
        self.links: tuple[Link, ...] = ()
        self.upstream: UpstreamConnection | None = None
        self.upstream_host: UpstreamHost | None = None
        self.idempotency = ""
        self.key: bytes | None = None
        self.claim = ""
        self.trail: Trail | None = None
        self.failures: tuple[FailedTry, ...] = ()
        self.breaker = ""
        self.reason = ""
        self.retry_skipped = ""
        self.metrics: RouteMetrics | None = None
        self.notes = b""
        self.added = b""
        self.sent = False
        self.has_task = False
        self.head_sent = False
        self.request_done = head.length == 0
        self.request_sent = False
        self.forwards_expect = head.expects_continue
        self.writes_chunks = False
        self.detached = False
        self.outlives_client = False
        self.fingerprinter: Fingerprinter | None = None
        self.total_deadline = NEVER
        self.try_deadline = NEVER
        self.held: Upstream | None = None
        self.permit = 0
        self.attempt_started = 0.0
        self.head_at = 0.0
        self.retrying = False
        self.streaming = False

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method!r} {self.head.target!r} status={self.status}>"

    @property
    def span(self) -> bytes:
        """Trace id and span id, 24 raw bytes, where the request becomes spans."""
        trace = self.trace
        return bytes.fromhex(trace.trace_id + trace.span_id) if self.attempt_records is not None else b""

    # --- waiting ----------------------------------------------------------------------------------------

    def wait(self) -> Awaitable[Any]:
        """Await this for the next thing: what :meth:`wake` is given, or the error that :meth:`fail` is."""
        if self._failure is not None:
            raise self._failure
        if not self.has_task:
            return PARK
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def wake(self, result: object) -> None:
        """What was waited for has come. The caller's last act: the exchange goes on at once."""
        if not self.has_task:
            self._driver.resume(result)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Something went wrong; the first error counts. The caller's last act, as with :meth:`wake`."""
        waiter = self._waiter
        if not self.has_task and self._driver.parked:
            self._driver.throw(error)
        elif waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif self._failure is None:
            # Nobody waits, or who did has been woken and has not run yet: the next wait meets it.
            self._failure = error
            if self._work is not None:
                self._work.cancel()

    def check(self) -> None:
        """Raise what has gone wrong while nobody waited."""
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def interrupting(self, work: asyncio.Future[Any]) -> Iterator[None]:
        """Await ``work`` in this context: a failure of the exchange cancels it, and is raised instead."""
        self._work = work
        self.arm(None, "total")
        if self._failure is not None:
            work.cancel()
        try:
            yield
        except asyncio.CancelledError:
            self.check()
            raise
        finally:
            self._work = None

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds``; a client that goes away or a deadline ends the wait with its error."""
        handle = self._loop.call_later(seconds, self.wake, None)
        self.arm(None, "total")
        try:
            await self.wait()
        finally:
            handle.cancel()

    # --- time -------------------------------------------------------------------------------------------

    def arm(self, seconds: float | None, reason: str) -> None:
        """Let the exchange fail for ``reason`` after ``seconds``, or when an outer limit runs out first."""
        when = NEVER if seconds is None else self._loop.time() + seconds
        if self.try_deadline < when:
            when, reason = self.try_deadline, "per_try"
        if self.total_deadline < when:
            when, reason = self.total_deadline, "total"
        self._timeout_reason = reason
        connection = self.connection
        connection.deadline = when
        if when < connection.looked_at:
            self._deadlines.watch(connection)

    def expect_response_data(self, idle: float | None) -> None:
        """From now on at most ``idle`` seconds may pass between two reads from the upstream."""
        self._idle = idle
        self.try_deadline = NEVER
        self.arm(idle, self._idle_reason)

    def arm_try(self, seconds: float) -> None:
        """Let the attempt that begins now have at most ``seconds`` until its response's head."""
        self.try_deadline = self._loop.time() + seconds

    def touch(self) -> None:
        """Octets of the response have arrived."""
        self.arm(self._idle, self._idle_reason)

    def expire(self, now: float) -> None:  # noqa: ARG002 - the sweep's signature
        """The deadline has passed."""
        self.connection.deadline = NEVER
        reason = self._timeout_reason
        if reason == "body_idle":
            self.fail(RequestTimeout("the request's body did not arrive in time", reason=reason))
        elif self._idle_reason == _CLIENT_SLOW:
            self._give_up_client()
        else:
            message = f"the upstream did not answer in time ({reason})"
            self.fail(UpstreamTimeout(message, reason=reason, sent=self.sent))

    def remaining(self) -> float:
        """Seconds until ``timeouts.total`` runs out; ``inf`` if it never does."""
        return self.total_deadline - self._loop.time() if self.total_deadline != NEVER else NEVER

    # --- the request's body -----------------------------------------------------------------------------

    def answer_expect(self) -> None:
        """Ask for a body that is held back by ``Expect``: it is needed before the upstream sees anything."""
        self.forwards_expect = False
        if not self.request_done:
            self.connection.write(_CONTINUE)

    @property
    def body(self) -> bytes:
        """What is kept of the body."""
        if len(self._kept) > 1:
            self._kept = [b"".join(self._kept)]
        return self._kept[0] if self._kept else b""

    @property
    def replayable(self) -> bool:
        """Whether everything that has arrived of the body is still at hand."""
        return self._kept_size == self.bytes_in

    def body_arrived(self, payload: bytes, *, done: bool) -> None:
        """The client has sent a piece of the body, perhaps the last one."""
        self.bytes_in += len(payload)
        if self.body_limit is not None and self.bytes_in > self.body_limit:
            self.fail(BodyTooLarge(f"the body is over {self.body_limit} octets", reason="body"))
        else:
            self._take_body(payload, done=done)

    def _take_body(self, payload: bytes, *, done: bool) -> None:
        if self.fingerprinter is not None:
            self.fingerprinter.update(payload)
        if done:
            self.request_done = True
        upstream = self.upstream
        if upstream is None:
            self._hold(payload)
            return
        if self.replayable_so_far(payload):
            self._kept.append(payload)
            self._kept_size += len(payload)
        elif self._kept:
            self._drop_kept()
        if payload:
            upstream.write(payload if self.head.length is not None else chunk(payload))
        if done:
            self._end_request(upstream)
        elif not self._upstream_slow:
            self._expect_body()

    def _expect_body(self) -> None:
        """More of the body is to come; once the response has begun, what passes of either counts."""
        if self.upstream is None or self.upstream.response is None:
            self.arm(self.connection.limits.body_idle, "body_idle")
        else:
            self.touch()

    def replayable_so_far(self, payload: bytes) -> bool:
        """Whether ``payload``, just counted, can be kept with all that came before it."""
        return self._kept_size + len(payload) == self.bytes_in and self.bytes_in <= self._keep

    def _hold(self, payload: bytes) -> None:
        """There is no upstream yet. What is held is bounded: reading stops, and goes on when it is sent."""
        if payload:
            self._kept.append(payload)
            self._kept_size += len(payload)
        full = self._kept_size >= max(self._keep, self._hold_at_least)
        if full and not self.request_done:
            self.connection.pause_reading()
        if self._awaits_body:
            if full or self.request_done:
                self.wake(None)
            else:
                self.arm(self.connection.limits.body_idle, "body_idle")

    def _drop_kept(self) -> None:
        self._kept.clear()
        self._kept_size = 0

    def _end_request(self, upstream: UpstreamConnection) -> None:
        if self.head.length is None:
            upstream.write(last_chunk(self.connection.reader.body.trailers))
        self.request_sent = True
        if upstream.response is None:
            self.arm(self.timeouts.first_byte, "first_byte")

    async def read_body(self, octets: int) -> bool:
        """Read up to ``octets`` of the body before anything is sent; whether that is all of it.

        Raises:
            RequestTimeout: The client is too slow.
            ClientGone: It broke off.
        """
        self._keep = octets
        self.connection.resume_reading()
        while not self.request_done and self._kept_size < octets:
            await self._wait_for_body()
        return self.request_done

    async def body_begins(self) -> None:
        """Wait for the body's first octets.

        Raises:
            RequestTimeout: The client is too slow.
            ClientGone: It broke off.
        """
        self._keep = 0
        self._hold_at_least = 1
        self.connection.resume_reading()
        while not self._kept_size:
            await self._wait_for_body()
        self._hold_at_least = _HELD_OCTETS

    async def drain_body(self) -> None:
        """Read the rest of the body and drop it; a fingerprinter sees it."""
        while not self.request_done:
            self._drop_kept()
            self._keep = 0
            self.connection.resume_reading()
            await self._wait_for_body()

    async def _wait_for_body(self) -> None:
        self.arm(self.connection.limits.body_idle, "body_idle")
        self._awaits_body = True
        try:
            await self.wait()
        finally:
            self._awaits_body = False

    # --- the upstream -----------------------------------------------------------------------------------

    def attach(self, upstream: UpstreamConnection, head: bytes, keep: int) -> None:
        """Write the request's head and what is at hand of its body to ``upstream``."""
        upstream.begin(self)
        self.upstream = upstream
        self._upstream_slow = False
        self.sent = True
        self._keep = keep
        pieces = [head]
        if self._kept:
            if self.head.length is not None:
                pieces += self._kept
            else:
                pieces += [chunk(piece) for piece in self._kept if piece]
            if self._kept_size > keep:
                self._drop_kept()
        if self.request_done:
            if self.head.length is None:
                pieces.append(last_chunk(self.connection.reader.body.trailers))
            self.request_sent = True
            self.arm(self.timeouts.first_byte, "first_byte")
        else:
            self.request_sent = False
            self.connection.resume_reading()
            self.arm(self.connection.limits.body_idle, "body_idle")
        upstream.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def detach_upstream(self) -> None:
        """The attempt is over without a response that anybody waits for."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.discard()
        self._forget_upstream_error()

    def drop_response(self) -> None:
        """The attempt has failed and there will be another: nobody wants its response."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.drop_response()
        self._forget_upstream_error()

    def _forget_upstream_error(self) -> None:
        if isinstance(self._failure, UpstreamError):
            self._failure = None

    def pause_client(self) -> None:
        """The upstream takes the request slowly: the time that passes now is its, not the client's."""
        if self.status == 101:  # noqa: PLR2004 - a tunnel
            self.connection.pause_reading()
        elif not self.request_done:
            self.connection.pause_reading()
            self._upstream_slow = True
            self.arm(self.timeouts.idle, "idle")

    def resume_client(self) -> None:
        """The upstream has caught up."""
        self.connection.resume_reading()
        if self._upstream_slow:
            self._upstream_slow = False
            self._expect_body()

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx; HTTP/1.0 does not know them (RFC 9110, section 15.2)."""
        if self.head.minor == 0 or self.detached:
            return
        phrase = head.reason or _INTERIM_PHRASES.get(head.status, b"")
        self.connection.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, phrase, head.fields.raw))

    # --- the response -----------------------------------------------------------------------------------

    def deliver(self, payload: bytes) -> None:
        """Pass a piece of the response's body to the client."""
        self.bytes_out += len(payload)
        if not self.detached:
            self.connection.write(chunk(payload) if self.writes_chunks else payload)

    def deliver_raw(self, data: bytes) -> None:
        """Pass octets of a tunnel to the client."""
        self.bytes_out += len(data)
        self.connection.write(data)
        self.touch()

    def tunnel_half_closed(self, side: str) -> None:
        """One side of the tunnel sends nothing more: the other is told, and the second one ends it."""
        if side == UPSTREAM_SIDE:
            self.connection.end_writing()
        elif self.upstream is not None:
            self.upstream.end_writing()
        if self._half_closed not in ("", side):
            self.wake(None)
        self._half_closed = side

    # --- the client -------------------------------------------------------------------------------------

    def pause_upstream(self) -> None:
        """The client takes the response slowly: the time that passes now is its, not the upstream's."""
        if self.upstream is not None:
            self.upstream.pause_reading()
            if self.status != 101:  # noqa: PLR2004 - in a tunnel, either side's octets count
                self._idle_reason = _CLIENT_SLOW
                self._restart_idle_time()

    def resume_upstream(self) -> None:
        """The client has caught up."""
        if self.upstream is not None:
            self.upstream.resume_reading()
            if self._idle_reason == _CLIENT_SLOW:
                self._idle_reason = "idle"
                self._restart_idle_time()

    def _restart_idle_time(self) -> None:
        """Another side is waited for now; before the response's head, its own time goes on."""
        if self._idle is not None:
            self.touch()

    def let_upstream_flow(self, upstream: UpstreamConnection) -> None:
        """The rest of the response is wanted now, as fast as the client takes it."""
        if self.connection.writing_paused and not self.detached:
            self.pause_upstream()
        else:
            upstream.resume_reading()

    def _give_up_client(self) -> None:
        """It has taken nothing for too long, which says nothing of the upstream."""
        if self.outlives_client:
            self._idle_reason = "idle"
            self.arm(self.timeouts.first_byte if self._idle is None else self._idle, "idle")
            self.connection.abort()  # `client_lost` follows, and the exchange goes on
        else:
            self.fail(ClientGone(_CLIENT_SLOW))

    def client_lost(self) -> None:
        """The client's connection is gone."""
        if self.outlives_client and self.request_done:
            self.detached = True
            self.resume_upstream()
            return
        self.fail(ClientGone())

    def client_closed_half(self) -> None:
        """The client sends nothing more; what it has asked for is still answered.

        An event stream is the exception: it may be silent for hours, nobody reads one with half a connection,
        and only a write would tell.
        """
        if not self.request_done:
            self.fail(BadRequest("the request's body ended early", reason="truncated"))
        elif self.streaming:
            self.fail(ClientGone())
