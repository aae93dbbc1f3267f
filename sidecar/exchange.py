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
    ClientGone,
    RequestTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from sidecar.net.deadlines import NEVER
from sidecar.net.upstream import UPSTREAM_SIDE
from sidecar.request_body import NO_BODY, RequestBody, has_body
from sidecar.wire.body import chunk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from sidecar.audited import Trail
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

_CLIENT_SLOW: Final = "client_slow"
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
        body: The request's body.
        plan: The route's plan, once it is known; a call of the sidecar's own may have none.
        destination: Where it is sent: the plan, where there is one.
        parameters: The path parameters of the route's template.
        started: When the head was complete, in monotonic seconds.
        started_ns: The same in nanoseconds since the Unix epoch, where the request is sampled.
        correlation_id: Taken from the request or made.
        metrics: Figures of the route, once it is known.
        trace: Where the request stands in its trace.
        status: What the client got; 0 before.
        bytes_in: Octets of the request's body so far, or of a tunnel.
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
        entered: Whether the retry budget counts the request.
        sent: Whether any octet of the request may have reached an upstream.
        has_task: Whether it runs in a task, not in the coroutine of a client's connection.
        head_sent: Whether the client has been sent the response's head.
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
        "_deadlines",
        "_driver",
        "_failure",
        "_half_closed",
        "_idle",
        "_idle_reason",
        "_loop",
        "_timeout_reason",
        "_waiter",
        "_work",
        "added",
        "attempt_records",
        "attempt_started",
        "attempts",
        "body",
        "breaker",
        "bytes_in",
        "bytes_out",
        "claim",
        "connection",
        "correlation_id",
        "destination",
        "detached",
        "entered",
        "failures",
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
        self._failure: BaseException | None = None
        self._idle: float | None = None
        self._idle_reason = "idle"
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
        self.entered = False
        self.sent = False
        self.has_task = False
        self.head_sent = False
        self.writes_chunks = False
        self.detached = False
        self.outlives_client = False
        self.total_deadline = NEVER
        self.try_deadline = NEVER
        self.held: Upstream | None = None
        self.permit = 0
        self.attempt_started = 0.0
        self.head_at = 0.0
        self.retrying = False
        self.streaming = False
        # Last, since the body knows its exchange; `end` parts them.
        self.body: RequestBody = RequestBody(self) if has_body(head) else NO_BODY

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method!r} {self.head.target!r} status={self.status}>"

    @property
    def span(self) -> bytes:
        """Trace id and span id, 24 raw bytes, where the request becomes spans."""
        trace = self.trace
        return bytes.fromhex(trace.trace_id + trace.span_id) if self.attempt_records is not None else b""

    def end(self) -> None:
        """It is over: no deadline is left, and no circle of references for the garbage collector."""
        self.connection.deadline = NEVER
        self.body = NO_BODY
        self._waiter = None  # its error's traceback has the frames that have the exchange

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

    # --- the upstream -----------------------------------------------------------------------------------

    def attach(self, upstream: UpstreamConnection, head: bytes, keep: int) -> None:
        """Write the request's head and what is at hand of its body to ``upstream``.

        Args:
            upstream: Whom it is sent to.
            head: As it goes over the wire.
            keep: Octets up to which the body is kept for another time.
        """
        upstream.begin(self)
        self.upstream = upstream
        self.sent = True
        if self.body is NO_BODY:
            self.arm(self.timeouts.first_byte, "first_byte")
            upstream.transport.write(head)
        else:
            self.body.send(upstream, head, keep)

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
        """The upstream takes slowly what the client sends."""
        if self.status == 101:  # noqa: PLR2004 - a tunnel
            self.connection.pause_reading()
        else:
            self.body.pause()

    def resume_client(self) -> None:
        """The upstream has caught up."""
        self.connection.resume_reading()
        self.body.resume()

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
        if self.outlives_client and self.body.done:
            self.detached = True
            self.resume_upstream()
            return
        self.fail(ClientGone())

    def client_closed_half(self) -> None:
        """The client sends nothing more; what it has asked for is still answered.

        An event stream is the exception: it may be silent for hours, nobody reads one with half a connection,
        and only a write would tell.
        """
        if not self.body.done:
            self.fail(BadRequest("the request's body ended early", reason="truncated"))
        elif self.streaming:
            self.fail(ClientGone())
