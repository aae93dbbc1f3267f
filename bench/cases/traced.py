"""Every request sampled and exported to a collector, beside Envoy's OpenTelemetry tracer doing the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.cases.common import GET_HELLO, cpu_us
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.load import BrokenAnswer, measure
from bench.peers import envoy, sidecar
from bench.servers import otlp_sink, upstream

if TYPE_CHECKING:
    from bench.peers.base import Proxy

_LIMIT = 0.8
_BOTH_SPANS = f"{envoy.NAME}, both spans"
_FLUSH_SECONDS = 10.0
_POLL_SECONDS = 0.3


def exporting_to(port: int) -> dict[str, str]:
    """The environment that sends spans to a collector on loopback."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


def _check_exports(proxy: Proxy, sink: int, spans_each: int, settings: Settings) -> None:
    """Make sure that the spans really arrive: a tracer that drops them would look fast.

    Raises:
        BrokenAnswer: Too few came.
    """
    before = otlp_sink.spans_taken(sink)
    load = measure(
        proxy.port, GET_HELLO, proxy.pid, connections=settings.connections, seconds=settings.seconds
    )
    expected = spans_each * load.requests
    deadline = time.monotonic() + _FLUSH_SECONDS
    while (came := otlp_sink.spans_taken(sink) - before) < expected:
        if time.monotonic() > deadline:
            raise BrokenAnswer(f"{came} of {expected} spans of {proxy.name} reached the collector")
        time.sleep(_POLL_SECONDS)


def run(settings: Settings) -> list[Row]:
    """A SERVER and a CLIENT span for each request; Envoy makes only the first, unless it is told to."""
    with Stage() as stage:
        port, sink = upstream.start(stage), otlp_sink.start(stage)
        one, both = envoy.Tracing(sink), envoy.Tracing(sink, upstream_span=True)
        ours = sidecar.start(stage, port, tracing={"sample": 1}, environment=exporting_to(sink))
        spans_each = {
            ours: 2,
            envoy.start(stage, port, tracing=one): 1,
            envoy.start(stage, port, name=_BOTH_SPANS, tracing=both): 2,
        }
        for proxy, spans in spans_each.items():
            _check_exports(proxy, sink, spans, settings)
        turns = {proxy.name: cpu_us(proxy, GET_HELLO, settings) for proxy in spans_each}
        measured = take_turns(turns, settings.rounds)
    our_figures = measured.pop("sidecar")
    limits = {envoy.NAME: _LIMIT, _BOTH_SPANS: None}
    return [
        ratio_row(
            "traced",
            "GET, every request traced",
            "µs",
            ours=our_figures,
            against=name,
            theirs=theirs,
            limit=limits[name],
        )
        for name, theirs in measured.items()
    ]
