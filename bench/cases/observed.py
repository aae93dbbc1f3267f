"""What requests pay for being observed: unsampled tracing, metrics, and a collector that is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.common import GET_HELLO, work_us
from bench.cases.traced import exporting_to
from bench.figures import Row, percentile, ratio_row, value_row
from bench.harness import Settings, Stage, free_port, take_turns
from bench.load import measure
from bench.peers import sidecar
from bench.servers import otlp_sink, upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers.base import Proxy

_CASE = "observed"
_TRACING_US = 1
_METRICS_US = 3
_DEAD_COLLECTOR = 1.05
_RATE = 3000  # requests a second, below what either can do: latency then is not a queue's
_WORK = (
    ("began", "unsampled, the trace begins here", _TRACING_US),
    ("continued", "unsampled, a caller's trace goes on", _TRACING_US),
    ("metrics", "all metrics of a keyed request", _METRICS_US),
)


def run(settings: Settings) -> list[Row]:
    """The pieces in a process of their own on the proxy's core; then two sidecars that sample everything."""
    work = [work_us("bench.servers.observed_work") for _ in range(settings.rounds)]
    with Stage() as stage:
        port, sink = upstream.start(stage), otlp_sink.start(stage)
        measured = take_turns(
            {
                name: _p99_ms(
                    sidecar.start(
                        stage, port, name=name, tracing={"sample": 1}, environment=exporting_to(collector)
                    ),
                    settings,
                )
                for name, collector in (("dead", free_port()), ("alive", sink))
            },
            settings.rounds,
        )
    return [
        *(
            value_row(_CASE, what, "µs", [figures[name] for figures in work], limit)
            for name, what, limit in _WORK
        ),
        ratio_row(
            _CASE,
            f"p99 at {_RATE:,}/s, all sampled, dead collector",
            "ms",
            ours=measured["dead"],
            against="sidecar, collector alive",
            theirs=measured["alive"],
            limit=_DEAD_COLLECTOR,
        ),
    ]


def _p99_ms(proxy: Proxy, settings: Settings) -> Callable[[], float]:
    def turn() -> float:
        sample = measure(
            proxy.port,
            GET_HELLO,
            proxy.pid,
            connections=settings.connections,
            seconds=settings.seconds,
            rate=_RATE,
        )
        return percentile(sample.latencies, 0.99) * 1000

    return turn
