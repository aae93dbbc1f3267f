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

_MAX_USES: Final = 256

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


class Scratch:
    """A message that is written, encoded, and written again.

    Overwritten texts stay in a message's memory until the message goes, so a new one replaces it regularly.

    Args:
        texts: Names of attributes whose values are text.
        numbers: Names of attributes whose values are integers.
    """

    __slots__ = ("_names", "_number_values", "_span", "_text_values", "_uses")

    def __init__(self, texts: tuple[str, ...], numbers: tuple[str, ...]) -> None:
        self._names = (texts, numbers)
        self._renew()

    def _renew(self) -> None:
        texts, numbers = self._names
        self._uses = 0
        self._span = Span(attributes=[attribute(name, "") for name in texts])
        self._span.attributes.extend(attribute(name, 0) for name in numbers)
        values = [item.value for item in self._span.attributes]
        self._text_values = values[: len(texts)]
        self._number_values = values[len(texts) :]

    def encode(
        self,
        ids: tuple[str, str, str],
        times_ns: tuple[int, int],
        flags: int,
        texts: tuple[str, ...],
        numbers: tuple[int, ...] = (),
    ) -> bytes:
        """The encoded span of these ids (trace, own, parent), times (start, end), and attribute values."""
        if self._uses == _MAX_USES:
            self._renew()
        self._uses += 1
        span = self._span
        trace_id, span_id, parent_id = ids
        span.trace_id = bytes.fromhex(trace_id)
        span.span_id = bytes.fromhex(span_id)
        span.parent_span_id = bytes.fromhex(parent_id)
        span.start_time_unix_nano, span.end_time_unix_nano = times_ns
        span.flags = flags
        for slot, text in zip(self._text_values, texts, strict=True):
            slot.string_value = text
        for slot, number in zip(self._number_values, numbers, strict=True):
            slot.int_value = number
        return span.SerializeToString()


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
