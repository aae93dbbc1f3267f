"""The schema and the reference say what the model says."""

import json
import re
from pathlib import Path

import pytest

from sidecar.settings.environment import PREFIX
from sidecar.settings.introspect import keys_of, sections
from sidecar.settings.model import Settings
from sidecar.settings.reference import reference, with_reference
from sidecar.settings.schema import json_schema

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_reference_is_in_step_with_the_model():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_reference(text) == text, "run: python -m sidecar.settings.reference docs/configuration.md"


def test_the_reference_lists_every_key_with_its_variable():
    text = reference()
    for name in keys_of(Settings):
        assert f"| `{name}` |" in text
        assert f"`{PREFIX}{name.upper()}`" in text
    assert "`SIDECAR_UPSTREAMS__NAME__TIMEOUTS__CONNECT`" in text


def test_the_schema_describes_every_section():
    schema = json_schema()
    json.dumps(schema)
    definitions = {"Settings": schema, **schema["$defs"]}
    for _, section in sections():
        described = definitions[section.__name__]
        assert list(described["properties"]) == list(keys_of(section))
        assert described["additionalProperties"] is False
        assert described.get("required", []) == [
            key.name for key in keys_of(section).values() if key.required
        ]


def test_references_in_the_schema_lead_somewhere():
    schema = json_schema()
    for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)):
        assert name in schema["$defs"]


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("Timeouts", "connect", ["1s", "100ms", "${X}"]),
        ("Limits", "header_bytes", ["64KiB", 8192]),
        ("Limits", "body", ["none", None, "1MiB"]),
        ("Breaker", "failure_rate", ["50%", 0.5]),
        ("Retry", "jitter", [True, False]),
        ("Retry", "max_attempts", [3, "${ATTEMPTS:-3}"]),
        ("Log", "level", ["info"]),
    ],
)
def test_the_schema_accepts_what_the_sidecar_accepts(section, key, values):
    options = json_schema()["$defs"][section]["properties"][key]["anyOf"]
    for value in values:
        assert any(accepts(option, value) for option in options), value


def test_the_schema_refuses_what_the_sidecar_refuses():
    options = json_schema()["$defs"]["Timeouts"]["properties"]["connect"]["anyOf"]
    for value in (5, "5", "fast", None, True):
        assert not any(accepts(option, value) for option in options), value


def accepts(schema, value):
    """As much of JSON Schema as the schema uses for scalars."""
    if "anyOf" in schema:
        return any(accepts(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if not isinstance(value, types[schema["type"]]) or (
        isinstance(value, bool) and schema["type"] != "boolean"
    ):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    return schema.get("minimum", 0) <= (value or 0) <= schema.get("maximum", 1 << 62)
