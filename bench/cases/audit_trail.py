"""What the audit trail costs: an exchange, a row on its way into PostgreSQL, verifying the chain."""

from __future__ import annotations

import json
import subprocess

from bench.figures import Row, value_row
from bench.harness import CORES, ROOT, Settings, Stage, on_cores, python_module
from bench.servers import postgres

_CASE = "audit-trail"
_FINISH_US = 5
_WRITE_US = 200  # 5,000 rows a second
_VERIFY_SECONDS_PER_MILLION = 60
_VERIFY_GROWTH_MIB = 8
_FEW_ROWS = 10_000


def run(settings: Settings) -> list[Row]:
    """Each piece of work runs in a process of its own on the proxy's core, the database on the others."""
    with Stage() as stage, postgres.audit_database(stage.folder) as url:
        postgres.fill(url, _FEW_ROWS)
        small = _work("verify", url)
        finish = [_work("finish", url)["us"] for _ in range(settings.rounds)]
        write = [_work("write", url)["us"] for _ in range(settings.rounds)]
        postgres.fill(url, settings.records)
        large = _work("verify", url)
    per_million = large["seconds"] / large["rows"] * 1e6
    return [
        value_row(_CASE, "best effort: CPU on the event loop", "µs", finish, _FINISH_US),
        value_row(_CASE, "spool to PostgreSQL, per row", "µs", write, _WRITE_US),
        value_row(_CASE, "verifying a million rows", "s", [per_million], _VERIFY_SECONDS_PER_MILLION),
        value_row(
            _CASE,
            f"memory for {large['rows']:,.0f} rows above {_FEW_ROWS:,}",
            "MiB",
            [large["peak_mib"] - small["peak_mib"]],
            _VERIFY_GROWTH_MIB,
        ),
    ]


def _work(name: str, url: str) -> dict[str, float]:
    with on_cores(CORES.proxy):
        done = subprocess.run(
            python_module("bench.servers.audit_work", name, url), cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
