"""Keyed POSTs through a Redis that holds a million other records, beside an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.keyed import keyed_turns
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.peers import sidecar
from bench.servers import redis, upstream

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT = 1.05


def run(settings: Settings) -> list[Row]:
    """Two sidecars, each on a Redis of its own."""
    with Stage() as stage:
        port = upstream.start(stage)
        turns: dict[str, Callable[[], float]] = {}
        for name, records in (("empty", 0), ("full", settings.records)):
            store = redis.start(stage, name=f"redis-{name}")
            redis.populate(store, records)
            proxy = sidecar.start(stage, port, name=name, store=f"redis://127.0.0.1:{store}")
            turns |= keyed_turns(proxy, settings)
        measured = take_turns(turns, settings.rounds)
    return [
        ratio_row(
            "many-records",
            f"keyed POST, {settings.records:,} records, {which}",
            "µs",
            ours=measured[f"full, {which}"],
            against="sidecar, no records",
            theirs=measured[f"empty, {which}"],
            limit=_LIMIT,
        )
        for which in ("first time", "replay")
    ]
