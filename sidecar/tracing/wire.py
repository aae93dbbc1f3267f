"""The few pieces of protobuf's wire format that let encoded messages be put together without decoding them.

https://protobuf.dev/programming-guides/encoding/: a message within another is its tag, length and bytes.
"""

from __future__ import annotations

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
_TWO_BYTES: Final = 1 << 14


def embedded(tag: bytes, message: bytes) -> bytes:
    """An encoded message as a field of another."""
    return tag + length(message) + message


def length(message: bytes) -> bytes:
    """The size of ``message`` as a varint."""
    size = len(message)
    if size < _ONE_BYTE:
        return bytes((size,))
    if size < _TWO_BYTES:
        return bytes((size & 0x7F | 0x80, size >> 7))
    digits = bytearray()
    while size >= _ONE_BYTE:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)
