"""JSON in and out without a change of value: a sum in the audit trail is that sum, to the last digit.

A number that a double or a 64-bit integer cannot hold stays the text that it was.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

_SAFE_DIGITS = 18
# U+0000, written as an escape that is not itself escaped: PostgreSQL's jsonb cannot hold it.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class NotJsonError(ValueError):
    """The bytes are no JSON document (RFC 8259) in UTF-8."""


class NotStorableError(ValueError):
    """A JSON value that ``jsonb`` cannot hold."""


def loads(body: bytes) -> Any:
    """Decode a document; numbers that would lose digits become opaque.

    Raises:
        NotJsonError: It is none; ``NaN`` and ``Infinity`` are none either.
    """
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error) or type(error).__name__) from error


def dumps(value: Any) -> str:
    """Encode a decoded document, without white space.

    Raises:
        NotStorableError: It holds U+0000 or half a surrogate pair, or is nested more than some 250 levels
            deep.
    """
    try:
        text = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise NotStorableError(str(error)) from error
    if b"\\u0000" in text and _NUL.search(text):
        raise NotStorableError("a string holds the character U+0000")
    return text.decode()


def _whole_number(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _SAFE_DIGITS else orjson.Fragment(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(
    parse_float=orjson.Fragment, parse_int=_whole_number, parse_constant=_refuse_constant
)
