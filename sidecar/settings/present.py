"""The configuration in force, for people and programs to read: as it would be written, secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.settings.introspect import Key, keys_of, show
from sidecar.settings.kinds import Number, Whole
from sidecar.settings.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping


def present(section: Section) -> dict[str, Any]:
    """``section`` and those inside it as JSON can hold them: ``{"limits": {"header_bytes": "64KiB", …}}``."""
    return {name: _value(key, getattr(section, name)) for name, key in keys_of(type(section)).items()}


def _value(key: Key, value: Any) -> Any:
    if value is None:
        return "off" if key.off else show(key, None) or None
    if key.shape == "list":
        return [_one(key, item) for item in value]
    if key.shape == "mapping":
        items: Mapping[str, Any] = value
        return {name: _one(key, item) for name, item in items.items()}
    return _one(key, value)


def _one(key: Key, value: Any) -> Any:
    if isinstance(value, Section):
        return present(value)
    if isinstance(value, bool) or isinstance(key.kind, Whole | Number):
        return value
    return show(key, value)
