"""Keyed POSTs with records in the sidecar's own memory, beside unkeyed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.common import POST_ORDER, cpu_us
from bench.cases.keyed import keyed_turns, over_unkeyed
from bench.harness import Settings, Stage, take_turns
from bench.peers import sidecar
from bench.servers import upstream

if TYPE_CHECKING:
    from bench.figures import Row


def run(settings: Settings) -> list[Row]:
    """Records in the sidecar's own memory."""
    with Stage() as stage:
        proxy = sidecar.start(stage, upstream.start(stage))
        turns = {"unkeyed": cpu_us(proxy, POST_ORDER, settings), **keyed_turns(proxy, settings)}
        measured = take_turns(turns, settings.rounds)
    return over_unkeyed("keyed-memory", "memory", measured)
