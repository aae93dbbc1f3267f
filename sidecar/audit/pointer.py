"""JSON pointers (RFC 6901) into decoded documents."""

from __future__ import annotations

import re
from typing import Any

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")  # RFC 6901, section 4: no leading zeros

Pointer = tuple[str, ...]


def parse_pointer(text: str) -> Pointer:
    """The reference tokens of a pointer; ``""`` has none and means the whole document.

    Raises:
        ValueError: It is no JSON pointer.
    """
    if _POINTER.fullmatch(text) is None:
        raise ValueError(
            f"{text!r} is no JSON pointer: expected '' or a '/' before each name, '~0' for '~', '~1' for '/'"
        )
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def find(document: Any, pointer: Pointer) -> Any:
    """The value that ``pointer`` names.

    Raises:
        KeyError: There is none; the argument is the first token that leads nowhere.
    """
    for token in pointer:
        document = document[_step(document, token)]
    return document


def replace(document: Any, pointer: Pointer, value: Any) -> Any:
    """A document with ``value`` where ``pointer`` points, or the same one if that leads nowhere."""
    if not pointer:
        return value
    try:
        key = _step(document, pointer[0])
    except KeyError:
        return document
    copy = document.copy()
    copy[key] = replace(document[key], pointer[1:], value)
    return copy


def _step(container: Any, token: str) -> Any:
    """The key or index of ``container`` that ``token`` names, which is there."""
    if isinstance(container, dict):
        if token in container:
            return token
    elif isinstance(container, list) and _INDEX.fullmatch(token) and int(token) < len(container):
        return int(token)
    raise KeyError(token)
