"""W3C Baggage: passed on as it came while it is well formed and small enough."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES: Final = 8192
MAX_MEMBERS: Final = 180
"""The grammar's own limit; at least 64 must be passed on (section 3.3.2)."""

_OWS: Final = b" \t"
# Section 3.3.1. Repetitions are possessive: no input makes the expression try twice.
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE: Final = rb"[ \t]*+=[ \t]*+[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*+"
_PROPERTY: Final = rb"[ \t]*+;[ \t]*+%b(?:%b)?+" % (_TOKEN, _VALUE)
_MEMBER: Final = re.compile(rb"%b%b(?:%b)*+" % (_TOKEN, _VALUE, _PROPERTY))


def valid_baggage(values: Sequence[bytes]) -> tuple[bytes, ...]:
    """The lines to send on: ``values`` themselves, or one line with what may stay of them.

    Malformed members are left out, and so are the last ones where there are more than 180, or more than 8,192
    bytes in all. No member is ever cut.
    """
    members = [member.strip(_OWS) for value in values for member in value.split(b",")]
    good = [member for member in members if _MEMBER.fullmatch(member)]
    size = sum(map(len, values)) + len(values) - 1
    if len(good) == len(members) <= MAX_MEMBERS and size <= MAX_BYTES:
        return tuple(values)
    kept = _within_limits(good)
    return (b",".join(kept),) if kept else ()


def _within_limits(members: list[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    room = MAX_BYTES + 1  # the first member has no comma before it
    for member in members[:MAX_MEMBERS]:
        room -= len(member) + 1
        if room < 0:
            break
        kept.append(member)
    return kept
