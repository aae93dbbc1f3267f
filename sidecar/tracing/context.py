"""The context of a trace as it comes in and goes on: ``traceparent`` and ``tracestate``.

W3C Trace Context, level 1, with the random flag of level 2. An unsampled context passes through as it came,
to the byte; a sampled one gets a span id per attempt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sidecar.ids import random_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.tracing.sampling import Sampler

_SAMPLED: Final = 0x01
_KNOWN_FLAGS: Final = 0x03
"""Sampled, and random of level 2; all others are to be sent as zero."""

_OWS: Final = b" \t"
_FORBIDDEN_VERSION: Final = b"ff"
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16
_LENGTH_00: Final = 55

# Section 3.2.2 (traceparent); in versions to come more may follow after another dash (section 3.2.4).
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.DOTALL)
# Section 3.3.1.3 (tracestate): a value has 1 to 256 characters, the last of which is no space.
_MEMBER: Final = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32

# What almost every caller sends is seen to be valid at one look: version 00, and one line of members.
_USUAL: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LINE: Final = re.compile(
    rb"[ \t]*+(?:%b[ \t]*+)?+(?:,[ \t]*+(?:%b[ \t]*+)?+)*+" % (_MEMBER.pattern, _MEMBER.pattern)
)


class TraceContext:
    """Where a request stands in its trace.

    Attributes:
        digits: The trace id, 32 lower-case hexadecimal digits; logged with every line of the request, sampled
            or not.
        parent_id: The caller's span, 16 digits; empty where the trace begins here.
        span_id: The SERVER span of this request, 16 digits; empty if it is not sampled.
        flags: Sampled (1), and random (2) if the caller set it.
        sampled: Whether the request becomes spans.
        traceparent: What an unsampled request sends on. A sampled one sends that of :meth:`child`.
        tracestate: Lines to send on, as they came.
    """

    __slots__ = ("digits", "flags", "parent_id", "sampled", "span_id", "traceparent", "tracestate")

    def __init__(
        self,
        digits: bytes,
        parent_id: str,
        flags: int,
        traceparent: bytes,
        tracestate: tuple[bytes, ...],
    ) -> None:
        self.digits = digits
        self.parent_id = parent_id
        self.flags = flags
        self.sampled = sampled = flags & _SAMPLED == _SAMPLED
        self.span_id = random_digits(16).decode() if sampled else ""
        self.traceparent = traceparent
        self.tracestate = tracestate

    def __repr__(self) -> str:
        return f"<TraceContext {self.trace_id} sampled={self.sampled}>"

    @property
    def trace_id(self) -> str:
        """The trace id as text."""
        return self.digits.decode()

    def child(self) -> tuple[str, bytes]:
        """A fresh span id for an attempt, and the ``traceparent`` that makes the upstream its child."""
        span_id = random_digits(16).decode()
        return span_id, f"00-{self.trace_id}-{span_id}-{self.flags:02x}".encode()


def admit(traceparents: Sequence[bytes], tracestates: Sequence[bytes], sampler: Sampler) -> TraceContext:
    """Continue the trace of a request, or begin one.

    Args:
        traceparents: Values of the ``traceparent`` field, one per line. Any other number than one begins a
            new trace, and so does a malformed value.
        tracestates: Values of the ``tracestate`` field, one per line. They are dropped as a whole if one is
            malformed, if there are more than 32 members, or if a new trace begins.
        sampler: Decides whether the request becomes spans.
    """
    if traceparents:
        parsed = _parse(traceparents)
        if parsed is not None:
            trace_id, parent_id, flags = parsed
            if not sampler.parent_based:
                flags = flags & ~_SAMPLED | sampler.samples(trace_id)
            states = valid_tracestate(tracestates) if tracestates else ()
            return TraceContext(trace_id, parent_id, flags & _KNOWN_FLAGS, traceparents[0], states)
    return begin(sampler)


def begin(sampler: Sampler) -> TraceContext:
    """Begin a trace, for a request that brings none.

    Unsampled, it names a span that nobody records: the upstream needs some parent id.
    """
    digits = random_digits(48)
    trace_id = digits[:32]
    sampled = sampler.samples(trace_id)
    traceparent = b"" if sampled else b"00-%b-%b-00" % (trace_id, digits[32:])
    return TraceContext(trace_id, "", int(sampled), traceparent, ())


def _parse(values: Sequence[bytes]) -> tuple[bytes, str, int] | None:
    """Trace id, parent id and flags, or ``None`` if the caller's context must be ignored."""
    if len(values) != 1:
        return None
    value = values[0]
    if _USUAL.fullmatch(value):
        return value[3:35], value[36:52].decode(), int(value[53:], 16)
    value = value.strip(_OWS)
    if not _TRACEPARENT.fullmatch(value):
        return None
    version, trace_id, parent_id = value[:2], value[3:35], value[36:52]
    if trace_id == _NO_TRACE or parent_id == _NO_PARENT or version == _FORBIDDEN_VERSION:
        return None
    if version == b"00" and len(value) != _LENGTH_00:
        return None
    return trace_id, parent_id.decode(), int(value[53:55], 16)


def valid_tracestate(values: Sequence[bytes]) -> tuple[bytes, ...]:
    """``values`` as they are, without empty lines; nothing at all if a member among them is malformed."""
    if len(values) == 1:
        line = values[0]
        if line and line.count(b",") < _MAX_MEMBERS and _LINE.fullmatch(line):
            return (line,) if line.strip(b" \t,") else ()
    members = [member.strip(_OWS) for value in values for member in value.split(b",")]
    named = [member for member in members if member]
    if len(named) > _MAX_MEMBERS or not all(map(_MEMBER.fullmatch, named)):
        return ()
    return tuple(value for value in values if value.strip(b" \t,"))
