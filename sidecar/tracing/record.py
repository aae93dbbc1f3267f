"""What a sampled exchange leaves behind: the facts that its spans are built from when it has ended.

All times are nanoseconds since the Unix epoch. An empty text or a zero means that there is nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.tracing.context import TraceContext

AttributeValue = str | bool | int | float
Kind = Literal["internal", "server", "client", "producer", "consumer"]


@dataclass(frozen=True, slots=True)
class Link:
    """Points to a span of another trace: the original of a replay, the publisher of an event."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(slots=True)
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

    span_id: str
    start_ns: int
    end_ns: int
    upstream: str
    scheme: str
    host: str
    port: int
    status: int = 0
    error: str = ""
    breaker: str = ""
    events: list[SpanEvent] = field(default_factory=list)


@dataclass(slots=True)
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

    context: TraceContext
    start_ns: int
    end_ns: int
    method: bytes
    target: bytes
    route: str
    template: str
    status: int
    correlation_id: bytes
    authority: bytes = b""
    scheme: str = "http"
    version: str = "1.1"
    client: str = ""
    user_agent: bytes = b""
    request_bytes: int = 0
    response_bytes: int = 0
    idempotency: str = ""
    reason: str = ""
    retry_skipped: str = ""
    attempts: list[AttemptRecord] = field(default_factory=list)
    events: list[SpanEvent] = field(default_factory=list)
    links: Sequence[Link] = ()


@dataclass(slots=True)
class SpanRecord:
    """Any other span: an event published, delivered, or dead-lettered.

    Attributes:
        name: A bounded text, such as ``deliver REQUEST_CREATED``.
        kind: Its role in the trace.
        trace_id: 32 lower-case hexadecimal digits.
        span_id: 16 lower-case hexadecimal digits.
        parent_id: The same, or empty.
        start_ns: When it began.
        end_ns: When it ended.
        attributes: What else is known.
        error: A bounded word if it failed.
        events: In order.
        links: To spans of other traces.
    """

    name: str
    kind: Kind
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    error: str = ""
    events: list[SpanEvent] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
