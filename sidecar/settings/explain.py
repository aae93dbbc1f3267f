"""What a validator's error means, in words for the person who wrote the configuration."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from sidecar.settings.introspect import keys_of, section_at, sections
from sidecar.settings.kinds import describe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from sidecar.settings.mistake import Path


def explain(path: Path, detail: ErrorDetails) -> str:
    """What is wrong at ``path``, and what to do about it."""
    raw = detail["input"]
    match detail["type"]:
        case "missing":
            return "is missing"
        case "unexpected_keyword_argument":
            return _unknown_key(path)
        case "literal_error":
            return _not_a_choice(path, raw)
        case "tuple_type":
            return (
                f"expected a list, such as [{raw}]"
                if isinstance(raw, str)
                else f"expected a list, got {describe(raw)}"
            )
        case "dataclass_type" | "dict_type":
            return f"expected keys and values{_or_off(path)}, got {describe(raw)}"
        case _:
            return detail["msg"].removeprefix("Value error, ")


def _or_off(path: Path) -> str:
    section = section_at(path[:-1])
    return ", or off" if section is not None and keys_of(section)[str(path[-1])].off else ""


def _unknown_key(path: Path) -> str:
    section = section_at(path[:-1])
    name = str(path[-1])
    known = keys_of(section) if section is not None else {}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    if close:
        return f"unknown key: did you mean {close[0]}?"
    places = [place for place, other in sections() if name in keys_of(other)]
    if len(places) == 1:
        return f"unknown key: it belongs to {places[0] or 'the top level'}"
    return f"unknown key: there is {', '.join(known)}"


def _not_a_choice(path: Path, raw: object) -> str:
    section = section_at(path[:-1])
    choices = keys_of(section)[str(path[-1])].choices if section is not None else ()
    close = difflib.get_close_matches(str(raw).lower(), choices, n=1)
    hint = f": did you mean {close[0]}?" if close else ""
    expected = " or ".join(filter(None, [", ".join(choices[:-1]), *choices[-1:]]))
    return f"expected {expected}, got {describe(raw)}{hint}"
