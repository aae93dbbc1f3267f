"""What the audit trail costs: an exchange, a row on its way into PostgreSQL, verifying the chain."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from bench.cases.common import ORDER, POST_ORDER
from bench.figures import Row, difference_row, value_row
from bench.harness import CORES, ROOT, Settings, Stage, on_cores, python_module, take_turns
from bench.load import Recipe, http_request, measure
from bench.peers import sidecar
from bench.processes import cpu_ns, loop_ns
from bench.servers import postgres, upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers.sidecar import Sidecar

_CASE = "audit-trail"
_LOOP_US = 5
_RATE = 5_000  # requests a second, and rows: what the writer is promised to keep up with
_TURNS = 9  # at least: turns differ by more than what is looked for
_USER = "X-User-ID: 0190a0b0-0000-7000-8000-000000000002"
_AUDITED_POST = Recipe(
    http_request("POST", "/orders", _USER, body=ORDER), POST_ORDER.status, POST_ORDER.body_bytes
)
_AUDITED_ROUTE = {
    "name": "audited",
    "match": {"path": "/orders"},
    "upstream": "app",
    "audit": {
        "request_id": "0190a0b0-0000-7000-8000-000000000001",
        "new_value": "response:",
        "changed_by_id": "header:X-User-ID",
        "changed_by_type": "USER",
    },
}
_WRITE_US = 200  # 5,000 rows a second
_VERIFY_SECONDS_PER_MILLION = 60
_VERIFY_GROWTH_MIB = 8
_FEW_ROWS = 10_000


def run(settings: Settings) -> list[Row]:
    """Each piece of work runs in a process of its own on the proxy's core, the database on the others."""
    with Stage() as stage, postgres.audit_database(stage.folder) as url:
        postgres.fill(url, _FEW_ROWS)
        small = _work("verify", url)
        in_proxy = _in_proxy(stage, url, settings)
        finish = [_work("finish", url)["us"] for _ in range(settings.rounds)]
        write = [_work("write", url)["us"] for _ in range(settings.rounds)]
        postgres.fill(url, settings.records)
        large = _work("verify", url)
    per_million = large["seconds"] / large["rows"] * 1e6
    return [
        *in_proxy,
        value_row(_CASE, "the recorder's part of it", "µs", finish, _LOOP_US),
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


def _in_proxy(stage: Stage, url: str, settings: Settings) -> list[Row]:
    """POSTs through two sidecars, one of which records them; what their event loops need, and all of them."""
    port = upstream.start(stage)
    proxies = [
        sidecar.start(stage, port, name="unaudited"),
        sidecar.start(
            stage,
            port,
            name="audited",
            database=url,
            routes=[_AUDITED_ROUTE],
            spool={"dir": f"{stage.folder}/a"},
        ),
    ]
    turns = {
        f"{proxy.name}, {what}": partial(_post_us, proxy, settings, cpu_of)
        for what, cpu_of in (("loop", loop_ns), ("all", cpu_ns))
        for proxy in proxies
    }
    measured = take_turns(turns, max(settings.rounds, _TURNS))
    return [
        difference_row(
            _CASE,
            f"POST recorded in best effort, {what}",
            "µs",
            ours=measured[f"audited, {key}"],
            against="sidecar, not audited",
            theirs=measured[f"unaudited, {key}"],
            limit=limit,
        )
        for key, what, limit in (
            ("loop", "event loop", _LOOP_US),
            ("all", "writer's thread and rows' delivery included", None),
        )
    ]


def _post_us(proxy: Sidecar, settings: Settings, cpu_of: Callable[[int], int]) -> float:
    return measure(
        proxy.port,
        _AUDITED_POST,
        proxy.pid,
        connections=settings.connections,
        seconds=settings.seconds,
        rate=_RATE,
        cpu_of=cpu_of,
    ).cpu_us


def _work(name: str, url: str) -> dict[str, float]:
    with on_cores(CORES.proxy):
        done = subprocess.run(
            python_module("bench.servers.audit_work", name, url), cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
