"""Bodies in one spelling: JSON without order and white space, forms without order across names."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT_INTEGER = 1 << 53
_LONGEST_NUMBER = 400  # a longer one is beyond a double, or costs more to look at than it is worth
_LENGTHS = Struct(">IIB")


class _NotCanonicalError(ValueError):
    """The document has more than one reading, or none."""


def canonical_json(body: bytes) -> bytes | None:
    """``body`` with members sorted and without white space; ``None`` where it must be compared byte by byte.

    That is the case for repeated members (readers disagree which one counts), numbers that a double cannot
    hold (readers disagree what they are; RFC 8259, section 6), and what is not JSON in UTF-8. An integer
    and a fraction of the same value (``1`` and ``1.0``) stay different; strings are compared decoded.
    """
    try:
        return _encode(_DECODER.decode(body.decode())).encode()
    except (ValueError, RecursionError):
        return None


def canonical_form(body: bytes) -> bytes:
    """``application/x-www-form-urlencoded`` with names in order, and the values of each name as they came.

    Names and values are compared decoded; ``a`` and ``a=`` stay different.
    """
    fields = sorted(map(_field, body.split(b"&")), key=lambda field: field[0])
    return b"".join(
        _LENGTHS.pack(len(name), len(value), bool(equals)) + name + value for name, equals, value in fields
    )


def _field(pair: bytes) -> tuple[bytes, bytes, bytes]:
    name, equals, value = pair.replace(b"+", b" ").partition(b"=")
    return unquote_to_bytes(name), equals, unquote_to_bytes(value)


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotCanonicalError("repeated member")
    return members


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise _NotCanonicalError("number too long")
    value = int(text)
    if not -_EXACT_INTEGER <= value <= _EXACT_INTEGER and int(_finite(text)) != value:
        raise _NotCanonicalError("integer beyond a double")
    return value


def _fraction(text: str) -> float:
    if len(text) > _LONGEST_NUMBER:
        raise _NotCanonicalError("number too long")
    value = _finite(text)
    # 0.1 is no double either, but it is what the nearest double is written as; 0.1000000000000000001 is not.
    if Decimal(repr(value)) != Decimal(text):
        raise _NotCanonicalError("fraction beyond a double")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NotCanonicalError("number out of a double's range")
    return value


def _constant(text: str) -> NoReturn:
    raise _NotCanonicalError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
