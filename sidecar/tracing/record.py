"""What becomes a span, or a part of one, once it has ended.

All times are nanoseconds since the Unix epoch. An empty text or a zero means that there is nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

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
