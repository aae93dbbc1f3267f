"""The few pieces of protobuf's wire format that let encoded messages be put together without decoding them.

https://protobuf.dev/programming-guides/encoding/: a message within another is its tag, length and bytes.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

RESOURCE_SPANS: Final = b"\x0a"
"""Field 1 of ``ExportTraceServiceRequest``, length-delimited."""

RESOURCE: Final = b"\x0a"
"""Field 1 of ``ResourceSpans``."""

SCOPE_SPANS: Final = b"\x12"
"""Field 2 of ``ResourceSpans``."""

SCOPE: Final = b"\x0a"
"""Field 1 of ``ScopeSpans``."""

SPANS: Final = b"\x12"
"""Field 2 of ``ScopeSpans``."""

_ONE_BYTE: Final = 1 << 7

# Fields of ``Span``: trace_id 1, span_id 2, parent_span_id 4; fixed32: flags 16; fixed64: start 7 and end 8.
_BEGIN: Final = Struct("<2s16s2s8s")
_PARENT: Final = b"\x22\x08"
_END: Final = Struct("<2sIcQcQ")


def embedded(tag: bytes, message: bytes) -> bytes:
    """An encoded message as a field of another."""
    return tag + length(message) + message


def length(message: bytes) -> bytes:
    """The size of ``message`` as a varint."""
    return varint(len(message))


def varint(number: int) -> bytes:
    """A number, which is not negative, as a varint."""
    if number < _READY:
        return _VARINTS[number]
    return _varint(number)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number >= _ONE_BYTE:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_READY: Final = 1 << 10
_VARINTS: Final = [_varint(number) for number in range(_READY)]


def span_frame(ids: tuple[str, str, str], times_ns: tuple[int, int], flags: int) -> bytes:
    """What every ``Span`` begins with.

    Args:
        ids: Of the trace, 32 hexadecimal digits; of the span, 16; of its parent, 16 or none.
        times_ns: When it began and ended, in nanoseconds since the Unix epoch.
        flags: 32 bits.
    """
    trace_id, span_id, parent_id = ids
    start_ns, end_ns = times_ns
    begin = _BEGIN.pack(b"\x0a\x10", bytes.fromhex(trace_id), b"\x12\x08", bytes.fromhex(span_id))
    end = _END.pack(b"\x85\x01", flags, b"\x39", start_ns, b"\x41", end_ns)
    return b"%b%b%b%b" % (begin, _PARENT, bytes.fromhex(parent_id), end) if parent_id else begin + end


def key(name: str) -> bytes:
    """The name of an attribute, as :func:`text` and :func:`number` take it: field 1 of ``KeyValue``."""
    return embedded(b"\x0a", name.encode())


def text(name: bytes, value: bytes) -> bytes:
    """An attribute of a ``Span`` (field 9) whose value is text in UTF-8 (field 1 of ``AnyValue``)."""
    size = length(value)
    inner = len(value) + len(size) + 1
    inner_size = varint(inner)
    return b"\x4a%b%b\x12%b\x0a%b%b" % (
        varint(len(name) + 1 + len(inner_size) + inner),
        name,
        inner_size,
        size,
        value,
    )


def number(name: bytes, value: int) -> bytes:
    """The same for a number that is not negative (field 3 of ``AnyValue``)."""
    digits = varint(value)
    inner = len(digits) + 1  # a varint has ten octets at most
    return b"\x4a%b%b\x12%b\x18%b" % (varint(len(name) + 2 + inner), name, varint(inner), digits)
