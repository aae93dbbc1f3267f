"""The configuration's JSON Schema (draft 2020-12), from the model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sidecar.settings.introspect import Key, descriptions, keys_of, sections, written
from sidecar.settings.model import Settings

if TYPE_CHECKING:
    from sidecar.settings.section import Section

# Anywhere, a value may come from the environment; what it will be cannot be known here.
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_SWITCH = {"enum": ["on", "off", True, False, None]}


def json_schema() -> dict[str, Any]:
    """The schema of the whole file."""
    used = dict.fromkeys(section for _, section in sections())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sidecar configuration",
        **_section(Settings),
        "$defs": {section.__name__: _section(section) for section in used if section is not Settings},
    }


def _section(section: type[Section]) -> dict[str, Any]:
    keys = keys_of(section)
    schema: dict[str, Any] = {
        "description": inspect.getdoc(section),
        "type": "object",
        "properties": {name: _key(section, key) for name, key in keys.items()},
        "additionalProperties": False,
    }
    required = [name for name, key in keys.items() if key.required]
    return {**schema, "required": required} if required else schema


def _key(section: type[Section], key: Key) -> dict[str, Any]:
    one = _value(key)
    schema = one
    if key.shape == "list":
        schema = {"type": "array", "items": one}
    elif key.shape == "mapping":
        schema = {"type": "object", "additionalProperties": one}
    if key.off:
        schema = {"anyOf": [schema, _SWITCH]}
    text = descriptions()[section.__name__, key.name]
    scope = key.kind.range() if key.kind is not None else ""
    default = written(key)
    facts = [fact for fact in (scope, f"default: {default}" if default else "") if fact]
    return {"description": f"{text} ({'; '.join(facts)})" if facts else text, **schema}


def _value(key: Key) -> dict[str, Any]:
    if key.section is not None:
        reference = {"$ref": f"#/$defs/{key.section.__name__}"}
        return {"anyOf": [reference, {"type": "null"}]} if key.shape == "one" else reference
    options: list[dict[str, Any]] = [
        {"enum": list(key.choices)} if key.kind is None else key.kind.json_schema(),
        _VARIABLE,
    ]
    if key.kind is not None and key.kind.none:
        options.append({"enum": ["none", None]})
    elif key.optional and key.shape == "one":
        options.append({"type": "null"})
    return {"anyOf": options}
