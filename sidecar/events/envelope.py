"""The members of a JSON object, each with its own text.

A decoder gives values; but 1.10 decodes to what is written as 1.1, and a number beyond a double to another.
Whoever passes on a part of a document unchanged needs its text.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NamedTuple, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


class EnvelopeError(ValueError):
    """The document is no JSON object in UTF-8, or has a member twice."""


class Member(NamedTuple):
    """One member's value, decoded, and as it is written."""

    value: Any
    text: bytes


def _no_constant(name: str) -> NoReturn:
    raise EnvelopeError(f"{name} is no JSON")


_DECODER = JSONDecoder(parse_constant=_no_constant)


def members_of(document: bytes) -> dict[str, Member]:
    """The members of the object that ``document`` is, in order.

    Raises:
        EnvelopeError: It is none.
    """
    try:
        return _scan(document.decode())
    except UnicodeDecodeError:
        raise EnvelopeError("it is not UTF-8") from None
    except (JSONDecodeError, StopIteration) as error:
        raise EnvelopeError(str(error) or "it ends too early") from None
    except RecursionError:
        raise EnvelopeError("it is nested too deeply") from None


def _scan(text: str) -> dict[str, Member]:
    members: dict[str, Member] = {}
    position = _expect(text, _skip(text, 0), "{")
    if text[position : position + 1] == "}":
        return _end(text, position + 1, members)
    while True:
        position = _expect(text, position, '"', skip=False)
        name, position = scanstring(text, position, True)
        start = _expect(text, _skip(text, position), ":")
        value, position = _DECODER.raw_decode(text, start)
        if name in members:
            raise EnvelopeError(f"member {name[:64]!r} is there twice")
        members[name] = Member(value, text[start:position].encode("utf-8", "surrogatepass"))
        position = _skip(text, position)
        if text[position : position + 1] == "}":
            return _end(text, position + 1, members)
        position = _expect(text, position, ",")


def _end(text: str, position: int, members: dict[str, Member]) -> dict[str, Member]:
    if _skip(text, position) != len(text):
        raise EnvelopeError(f"something follows the object at character {position}")
    return members


def _expect(text: str, position: int, character: str, *, skip: bool = True) -> int:
    if text[position : position + 1] != character:
        raise EnvelopeError(f"expected {character!r} at character {position}")
    return _skip(text, position + 1) if skip else position + 1


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()
