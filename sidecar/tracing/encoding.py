"""Pieces of encoded spans, made so that most of a span is never encoded twice.

Two encoded halves of a message, one after the other, are the encoded whole; so a span is put together
from bytes that are ready. https://protobuf.dev/programming-guides/encoding/#last-one-wins
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sidecar.otlp.resource import attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.tracing.record import AttributeValue, Link, SpanEvent

ERROR: Final = Span(status=Status(code=Status.STATUS_CODE_ERROR)).SerializeToString()

MAX_CACHED: Final = 512
"""Encoded values that one cache keeps; it starts anew when strangers fill it."""

Key = TypeVar("Key")


class Cache(dict[Key, bytes]):
    """Encodes a value when it is first seen."""

    __slots__ = ("_encode",)

    def __init__(self, encode: Callable[[Key], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, key: Key) -> bytes:
        if len(self) >= MAX_CACHED:
            self.clear()
        encoded = self[key] = self._encode(key)
        return encoded


def attribute_cache(name: str) -> Cache[str | int]:
    """A cache of the attribute ``name`` with its values."""
    return Cache(lambda value: encode_attribute(name, value))


def encode_attribute(name: str, value: AttributeValue) -> bytes:
    """A span that has one attribute and nothing else."""
    return Span(attributes=[attribute(name, value)]).SerializeToString()


def encode_extras(events: Iterable[SpanEvent], links: Iterable[Link]) -> bytes:
    """A span that has events and links and nothing else."""
    return Span(
        events=[
            Span.Event(time_unix_nano=event.time_ns, name=event.name, attributes=attributes(event.attributes))
            for event in events
        ],
        links=[
            Span.Link(
                trace_id=bytes.fromhex(link.trace_id),
                span_id=bytes.fromhex(link.span_id),
                attributes=attributes(link.attributes),
            )
            for link in links
        ],
    ).SerializeToString()
