"""From the start of the process to the first 200 of ``/readyz``, and the memory of a sidecar that idles."""

from __future__ import annotations

import time

from bench.figures import Row, Spread, value_row
from bench.harness import Settings, Stage
from bench.peers import envoy, sidecar
from bench.processes import resident_bytes
from bench.servers import upstream

_READY_SECONDS = 0.5
_IDLE_MIB = 45
_SETTLE_SECONDS = 1.0


def run(settings: Settings) -> list[Row]:
    """A fresh sidecar for each round; resident memory is that of all its processes, shared pages and all."""
    ready: list[float] = []
    memory: list[float] = []
    with Stage() as behind:
        port = upstream.start(behind)
        for _ in range(settings.rounds):
            with Stage() as stage:
                started = sidecar.start(stage, port)
                time.sleep(_SETTLE_SECONDS)
                ready.append(started.ready_seconds)
                memory.append(resident_bytes(started.pid) / 2**20)
        with Stage() as stage:
            peer = envoy.start(stage, port)
            time.sleep(_SETTLE_SECONDS)
            their_memory = resident_bytes(peer.pid) / 2**20
    beside = Spread.of([their_memory])
    return [
        value_row("start-up", "exec to /readyz 200", "s", ready, _READY_SECONDS),
        Row("start-up", "idle memory", "MiB", Spread.of(memory), envoy.NAME, beside, limit=_IDLE_MIB),
    ]
