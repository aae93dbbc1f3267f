"""1,000 routes beside one: CPU per request that matches the last of them."""

from __future__ import annotations

from typing import Any

from bench.cases.common import GET_HELLO, cpu_us
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.peers import sidecar
from bench.servers import upstream

_ROUTES = 1000
_LIMIT = 1.03
_MATCHING = {"name": "hello", "match": {"path": "/hello"}, "upstream": "app"}


def _other_route(number: int) -> dict[str, Any]:
    """Exact paths, templates and prefixes in turn."""
    kinds: list[dict[str, str]] = [
        {"path": f"/exact/{number}"},
        {"path": f"/template/{{id}}/part-{number}"},
        {"prefix": f"/prefix-{number}/"},
    ]
    return {"name": f"other-{number}", "match": kinds[number % len(kinds)], "upstream": "app"}


def run(settings: Settings) -> list[Row]:
    """Twice the usual rounds: the promise is narrow, and this machine's cores may be shared."""
    others = [_other_route(number) for number in range(_ROUTES - 2)]  # beside them: hello, and the default
    with Stage() as stage:
        port = upstream.start(stage)
        few = sidecar.start(stage, port, name="few", routes=[_MATCHING])
        many = sidecar.start(stage, port, name="many", routes=[*others, _MATCHING])
        turns = {proxy.name: cpu_us(proxy, GET_HELLO, settings) for proxy in (few, many)}
        measured = take_turns(turns, 2 * settings.rounds)
    return [
        ratio_row(
            "many-routes",
            f"GET, {_ROUTES:,} routes",
            "µs",
            ours=measured["many"],
            against="sidecar, 2 routes",
            theirs=measured["few"],
            limit=_LIMIT,
        )
    ]
