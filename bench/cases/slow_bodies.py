"""A body far larger than memory should hold, each way past a slow reader: how much the proxy grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.figures import Row, Spread
from bench.harness import Settings, Stage
from bench.peers import envoy, sidecar
from bench.processes import forget_peak, peak_bytes, resident_bytes
from bench.servers import upstream
from bench.slow import download, upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers.base import Proxy

_LIMIT_MIB = 10
_WARM_UP_BYTES = 1 << 20
_DIRECTIONS: dict[str, Callable[[int, int], None]] = {"download": download, "upload": upload}


def _growth_mib(proxy: Proxy, transfer: Callable[[int, int], None], count: int) -> Spread:
    """The peak of resident memory during the transfer, above what was resident before."""
    transfer(proxy.port, _WARM_UP_BYTES)
    forget_peak(proxy.pid)
    before = resident_bytes(proxy.pid)
    transfer(proxy.port, count)
    return Spread.of([(peak_bytes(proxy.pid) - before) / 2**20])


def run(settings: Settings) -> list[Row]:
    """The reader stands still for a second early on, and is slower than the sender all along."""
    rows: list[Row] = []
    size = f"{settings.stream_bytes / 2**30:g} GiB"
    with Stage() as stage:
        port = upstream.start(stage)
        our_proxy, their_proxy = sidecar.start(stage, port), envoy.start(stage, port)
        for direction, transfer in _DIRECTIONS.items():
            ours = _growth_mib(our_proxy, transfer, settings.stream_bytes)
            theirs = _growth_mib(their_proxy, transfer, settings.stream_bytes)
            what = f"growth, slow {direction} of {size}"
            rows.append(Row("slow-bodies", what, "MiB", ours, envoy.NAME, theirs, limit=_LIMIT_MIB))
    return rows
