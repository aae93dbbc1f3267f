from __future__ import annotations

import json

from bench.figures import Row, Spread, difference_row, ratio_row
from bench.report import as_json, markdown

ROWS = [
    ratio_row("a", "GET", "µs", ours=[27, 26, 30], against="Envoy", theirs=[54, 52, 60], limit=0.65),
    difference_row("b", "keyed", "µs", ours=[150.6], against="unkeyed", theirs=[30], limit=18),
    Row("c", "idle", "KiB", Spread.of([4.567]), "Envoy", Spread.of([1717.0]), limit=8),
    ratio_row("d", "GET", "µs", ours=[10], against="nginx", theirs=[20]),
]


def test_markdown_shows_median_spread_promise_and_verdict():
    assert markdown(ROWS, "a machine").splitlines()[2:] == [
        "| GET | 27.0 µs (26.0 to 30.0) | Envoy | 54.0 µs (52.0 to 60.0) | x 0.50 | ≤ x 0.65 | yes |",
        "| keyed | 151 µs | unkeyed | 30.0 µs | +121 µs | ≤ +18 µs | NO |",
        "| idle | 4.57 KiB | Envoy | 1,717 KiB |  | ≤ 8 KiB | yes |",
        "| GET | 10.0 µs | nginx | 20.0 µs | x 0.50 |  |  |",
        "",
        "Measured on: a machine.",
    ]


def test_json_keeps_every_figure_and_the_verdict():
    document = json.loads(as_json(ROWS, "a machine"))
    assert [row["met"] for row in document["rows"]] == [True, False, True, None]
    assert document["rows"][0]["compared"] == {"middle": 0.5, "low": 0.5, "high": 0.5}
    assert document["rows"][1]["promise"] == "difference"
