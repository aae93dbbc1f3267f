"""What a sampled exchange leaves behind: the facts that its spans are built from when it has ended.

All times are nanoseconds since the Unix epoch. An empty text or a zero means that there is nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.tracing.context import TraceContext
    from sidecar.tracing.record import Link, SpanEvent


class AttemptRecord:
    """One attempt to reach an upstream: it becomes a CLIENT span.

    Attributes:
        span_id: From :meth:`TraceContext.child`, the parent id that the upstream got.
        start_ns: When the attempt began, before any connecting.
        end_ns: When its response had ended, or it had failed.
        upstream: Name of the upstream.
        scheme: ``http`` or ``https``.
        host: Address of the host, without the port; the path of a Unix socket.
        port: Its port, 0 for a Unix socket.
        status: Status of the response, 0 if there was none.
        error: What went wrong, as a bounded word such as ``connect_refused`` or ``first_byte``.
        breaker: State of the host's circuit breaker when the attempt began.
        events: In order.
    """

    __slots__ = (
        "breaker",
        "end_ns",
        "error",
        "events",
        "host",
        "port",
        "scheme",
        "span_id",
        "start_ns",
        "status",
        "upstream",
    )

    def __init__(  # noqa: PLR0917 - facts, not options
        self,
        span_id: str,
        start_ns: int,
        end_ns: int,
        upstream: str,
        scheme: str,
        host: str,
        port: int,
        status: int = 0,
        error: str = "",
        breaker: str = "",
        events: list[SpanEvent] | None = None,
    ) -> None:
        self.span_id = span_id
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.upstream = upstream
        self.scheme = scheme
        self.host = host
        self.port = port
        self.status = status
        self.error = error
        self.breaker = breaker
        self.events: list[SpanEvent] = [] if events is None else events


class ExchangeRecord:
    """One exchange with a client: it becomes a SERVER span, and its attempts CLIENT spans below it.

    Attributes:
        context: The trace that the request belongs to; it is sampled.
        start_ns: When the first byte of the request came.
        end_ns: When the last byte of the response went.
        method: As the client wrote it.
        target: The same, path and query.
        route: Name of the route.
        template: The route's path template or prefix (``http.route``).
        status: What the client got.
        correlation_id: The request's.
        authority: The ``Host`` field.
        scheme: ``http`` or ``https``, of the listener.
        version: Of HTTP, as the client speaks it.
        client: Address of the client, without the port.
        user_agent: The ``User-Agent`` field.
        request_bytes: Size of the request's body.
        response_bytes: Size of the response's body.
        idempotency: What came of the key, as in ``idempotency_requests_total``.
        reason: Code of an answer that the sidecar made, in lower case.
        retry_skipped: Why a failed attempt was not tried again.
        attempts: In order.
        events: In order.
        links: To spans of other traces.
    """

    __slots__ = (
        "attempts",
        "authority",
        "client",
        "context",
        "correlation_id",
        "end_ns",
        "events",
        "idempotency",
        "links",
        "method",
        "reason",
        "request_bytes",
        "response_bytes",
        "retry_skipped",
        "route",
        "scheme",
        "start_ns",
        "status",
        "target",
        "template",
        "user_agent",
        "version",
    )

    def __init__(  # noqa: PLR0917 - facts, not options
        self,
        context: TraceContext,
        start_ns: int,
        end_ns: int,
        method: bytes,
        target: bytes,
        route: str,
        template: str,
        status: int,
        correlation_id: bytes,
        authority: bytes = b"",
        scheme: str = "http",
        version: str = "1.1",
        client: str = "",
        user_agent: bytes = b"",
        request_bytes: int = 0,
        response_bytes: int = 0,
        idempotency: str = "",
        reason: str = "",
        retry_skipped: str = "",
        attempts: list[AttemptRecord] | None = None,
        events: list[SpanEvent] | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        self.context = context
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.method = method
        self.target = target
        self.route = route
        self.template = template
        self.status = status
        self.correlation_id = correlation_id
        self.authority = authority
        self.scheme = scheme
        self.version = version
        self.client = client
        self.user_agent = user_agent
        self.request_bytes = request_bytes
        self.response_bytes = response_bytes
        self.idempotency = idempotency
        self.reason = reason
        self.retry_skipped = retry_skipped
        self.attempts: list[AttemptRecord] = [] if attempts is None else attempts
        self.events: list[SpanEvent] = [] if events is None else events
        self.links: Sequence[Link] = links
