"""The reference of all keys in ``docs/configuration.md``, from the model.

``python -m sidecar.settings.reference docs/configuration.md`` writes it between the document's two markers.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.settings.environment import DELIMITER, PREFIX
from sidecar.settings.introspect import Key, descriptions, keys_of, sections, written

if TYPE_CHECKING:
    from sidecar.settings.section import Section

BEGIN = "<!-- reference: written by python -m sidecar.settings.reference -->\n"
END = "<!-- end of reference -->\n"


def reference() -> str:
    """A table for each section, parents first."""
    seen: dict[type[Section], str] = {}
    parts: list[str] = []
    for place, section in sections():
        if section in seen:
            parts.append(_heading(place, section) + f"\nThe same keys as `{seen[section]}`.\n")
        else:
            seen[section] = place
            parts.append(_heading(place, section) + "\n" + _table(place, section))
    return "\n".join(parts)


def with_reference(document: str) -> str:
    """``document`` with the reference between its markers brought up to date."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def _heading(place: str, section: type[Section]) -> str:
    title = f"`{place}`" if place else "Top level"
    return f"### {title}\n\n{inspect.getdoc(section)}\n"


def _table(place: str, section: type[Section]) -> str:
    rows = ["| key | default | allowed | what it does | environment |", "|---|---|---|---|---|"]
    for name, key in keys_of(section).items():
        cells = [
            f"`{name}`",
            _default(key),
            _allowed(key),
            descriptions()[section.__name__, name],
            f"`{_variable(place, name)}`",
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.section is not None:
        return "off" if key.optional and not key.off else ""
    default = written(key)
    return f"`{default}`" if default else ""


def _allowed(key: Key) -> str:
    if key.section is not None:
        return {"one": "section", "list": "list of sections", "mapping": "sections by name"}[key.shape] + (
            " or `off`" if key.off else ""
        )
    allowed = ", ".join(f"`{choice}`" for choice in key.choices)
    if key.kind is not None:
        allowed = key.kind.range() or key.kind.expected
        if key.kind.none:
            allowed += ", or `none`"
    return f"list of: {allowed}" if key.shape == "list" else allowed


def _variable(place: str, name: str) -> str:
    steps = [*place.split("."), name] if place else [name]
    return PREFIX + DELIMITER.join(step.upper() for step in steps)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_reference(file.read_text(encoding="utf-8")), encoding="utf-8")
