"""What an open breaker's answer costs, beside a request that is proxied."""

from __future__ import annotations

import time

from bench.cases.common import GET_HELLO, cpu_us
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, free_port, take_turns
from bench.load import BrokenAnswer, Recipe, http_request, probe
from bench.peers import sidecar
from bench.servers import upstream

_LIMIT = 0.5
_OPEN_SECONDS = 10.0
_REQUEST = http_request("GET", "/dead/hello")
_ROUTE = {"name": "dead", "match": {"prefix": "/dead/"}, "upstream": "dead"}


def _refusal(port: int) -> Recipe:
    """Send requests to the dead upstream until its breaker is open; what it answers from then on."""
    deadline = time.monotonic() + _OPEN_SECONDS
    while time.monotonic() < deadline:
        status, head, body = probe(port, _REQUEST)
        if b"x-sidecar-reason: circuit_open" in head.lower():
            return Recipe(_REQUEST, status, len(body), with_field=b"x-sidecar-reason")
    raise BrokenAnswer(f"the breaker did not open within {_OPEN_SECONDS:g} s")


def run(settings: Settings) -> list[Row]:
    """The dead upstream is a port that nobody listens on; its breaker stays open throughout."""
    breaker = {"failure_threshold": 5, "reset_timeout": "1h"}
    dead = sidecar.upstream(free_port(), breaker=breaker)
    with Stage() as stage:
        port = upstream.start(stage)
        proxy = sidecar.start(stage, port, upstreams={"dead": dead}, routes=[_ROUTE])
        turns = {
            "refused": cpu_us(proxy, _refusal(proxy.port), settings),
            "proxied": cpu_us(proxy, GET_HELLO, settings),
        }
        measured = take_turns(turns, settings.rounds)
    return [
        ratio_row(
            "open-breaker",
            "CIRCUIT_OPEN answer",
            "µs",
            ours=measured["refused"],
            against="sidecar, proxied",
            theirs=measured["proxied"],
            limit=_LIMIT,
        )
    ]
