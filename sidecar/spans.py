"""Spans of what the sidecar does by itself: events published and delivered, dead letters sent again."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.tracing.context import TraceContext, admit
from sidecar.tracing.record import AttributeValue, Kind, Link, SpanRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.tracing.facts import AttemptRecord
    from sidecar.tracing.sampling import Sampler
    from sidecar.tracing.tracer import Tracer

_SAMPLED: Final = 0x01
_TRACEPARENT_LENGTH: Final = 55
_NOTHING: Final[Mapping[str, AttributeValue]] = MappingProxyType({})


class Purpose(NamedTuple):
    """What something is done for, as its trace says it.

    Attributes:
        span: Name of the span, a bounded text such as ``deliver REQUEST_CREATED``.
        kind: Its role.
        attributes: What else is known.
        linked: ``traceparent`` of what set it off in another trace, or empty.
    """

    span: str
    kind: Kind = "internal"
    attributes: Mapping[str, AttributeValue] = _NOTHING
    linked: str = ""


class Spans:
    """Begins traces and exports their spans.

    Args:
        sampler: Decides what becomes a span.
        tracer: The way to the collector, or ``None`` where there is none.
    """

    def __init__(self, sampler: Sampler, tracer: Tracer | None) -> None:
        self._sampler = sampler
        self._tracer = tracer

    def follow(self, traceparents: Sequence[bytes], tracestates: Sequence[bytes]) -> TraceContext:
        """The trace of a caller, or a new one."""
        return admit(traceparents, tracestates, self._sampler)

    def begin(self, linked: str) -> TraceContext:
        """A trace of its own; sampled if ``linked`` is, so that both ends of the link can be seen."""
        trace = admit((), (), self._sampler)
        if trace.sampled or self._tracer is None or len(linked) != _TRACEPARENT_LENGTH:
            return trace
        if not int(linked[53:], 16) & _SAMPLED:
            return trace
        return TraceContext(trace.digits, "", _SAMPLED, b"", ())

    def is_recorded(self, trace: TraceContext) -> bool:
        """Whether anything of the trace is exported."""
        return self._tracer is not None and trace.sampled

    def traceparent(self, trace: TraceContext) -> str:
        """``traceparent`` of what ``trace`` sets off: below its own span where that is exported."""
        if trace.traceparent and not self.is_recorded(trace):
            return trace.traceparent.decode("latin-1")
        return f"00-{trace.trace_id}-{trace.span_id}-{trace.flags:02x}"

    def export(
        self, trace: TraceContext, purpose: Purpose, started_ns: int, *, correlation_id: str, error: str = ""
    ) -> None:
        """Export the span of ``trace`` that has just ended, if it is recorded."""
        if self._tracer is None or not trace.sampled:
            return
        links = [Link(purpose.linked[3:35], purpose.linked[36:52])] if purpose.linked else []
        self._tracer.span(
            SpanRecord(
                name=purpose.span,
                kind=purpose.kind,
                trace_id=trace.trace_id,
                span_id=trace.span_id,
                parent_id=trace.parent_id,
                start_ns=started_ns,
                end_ns=time.time_ns(),
                attributes={**purpose.attributes, "correlation.id": correlation_id},
                error=error,
                links=links,
            )
        )

    def export_attempts(
        self,
        trace: TraceContext,
        attempts: Sequence[AttemptRecord],
        *,
        method: str,
        target: str,
        correlation_id: str,
    ) -> None:
        """Export the attempts to send a request, as CLIENT spans below that of ``trace``."""
        if self._tracer is not None:
            common: dict[str, AttributeValue] = {
                "http.request.method": method,
                "correlation.id": correlation_id,
            }
            for number, attempt in enumerate(attempts):
                self._tracer.span(_client_span(trace, attempt, number, target, common))


def child_of(trace: TraceContext) -> TraceContext:
    """Of something that is done for a request of ``trace``, and as part of it."""
    return TraceContext(
        trace.digits, trace.span_id or trace.parent_id, trace.flags, trace.traceparent, trace.tracestate
    )


def _client_span(
    trace: TraceContext,
    attempt: AttemptRecord,
    number: int,
    target: str,
    common: Mapping[str, AttributeValue],
) -> SpanRecord:
    port = f":{attempt.port}" if attempt.port else ""
    attributes: dict[str, AttributeValue] = {
        **common,
        "url.full": f"{attempt.scheme}://{attempt.host}{port}{target}",
        "server.address": attempt.host,
        "sidecar.upstream": attempt.upstream,
        "sidecar.breaker": attempt.breaker,
    }
    if attempt.port:
        attributes["server.port"] = attempt.port
    if attempt.status:
        attributes["http.response.status_code"] = attempt.status
    if number:
        attributes["http.request.resend_count"] = number
    return SpanRecord(
        name=str(common["http.request.method"]),
        kind="client",
        trace_id=trace.trace_id,
        span_id=attempt.span_id,
        parent_id=trace.span_id,
        start_ns=attempt.start_ns,
        end_ns=attempt.end_ns or time.time_ns(),
        attributes=attributes,
        error=attempt.error,
        events=attempt.events,
    )
