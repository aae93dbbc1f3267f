"""The rows as a table for people, as Markdown for the documentation, and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from bench.figures import Promise, Row, Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = ("measured", "sidecar", "beside", "its figure", "compared", "promised", "kept")
_VERDICTS = {True: "yes", False: "NO", None: ""}
_STYLES = {True: "green", False: "bold red", None: ""}


def _figure(value: float) -> str:
    """Three significant digits, without exponents."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def _spread(spread: Spread, unit: str = "") -> str:
    middle = f"{_figure(spread.middle)} {unit}".rstrip()
    if spread.low == spread.high:
        return middle
    return f"{middle} ({_figure(spread.low)} to {_figure(spread.high)})"


def _compared(row: Row) -> str:
    if row.compared is None:
        return ""
    if row.promise is Promise.DIFFERENCE:
        sign = "+" if row.compared.middle >= 0 else ""
        return sign + _spread(row.compared, row.unit)
    return "x " + _spread(row.compared)


def _promised(row: Row) -> str:
    if row.limit is None:
        return ""
    if row.promise is Promise.RATIO:
        return f"≤ x {row.limit:g}"
    sign = "+" if row.promise is Promise.DIFFERENCE else ""
    return f"≤ {sign}{row.limit:g} {row.unit}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.what,
        _spread(row.value, row.unit),
        row.against,
        _spread(row.other, row.unit) if row.other else "",
        _compared(row),
        _promised(row),
        _VERDICTS[row.met],
    )


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    drawn = Table(*_COLUMNS, title="CPU per request, and memory: medians (lowest to highest round)")
    previous = ""
    for row in rows:
        if previous and row.case != previous:
            drawn.add_section()
        previous = row.case
        *cells, verdict = _cells(row)
        style = _STYLES[row.met]
        drawn.add_row(*cells, f"[{style}]{verdict}[/]" if style else verdict)
    return drawn


def markdown(rows: Sequence[Row], machine: str) -> str:
    """For the documentation, with the machine it was measured on below."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", f"Measured on: {machine}.", ""])


def as_json(rows: Sequence[Row], machine: str) -> str:
    """Every figure unrounded; ``met`` is null for rows that only inform."""
    documents = [asdict(row) | {"promise": row.promise.value, "met": row.met} for row in rows]
    return json.dumps({"machine": machine, "rows": documents}, indent=2) + "\n"
