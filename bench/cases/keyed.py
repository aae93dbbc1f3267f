"""Keyed POSTs: first times, replays, and what they cost over unkeyed ones."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from bench.cases.common import ORDER, POST_ORDER, cpu_us
from bench.figures import Row, difference_row
from bench.load import Recipe, http_request, probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Settings
    from bench.peers.base import Proxy

_OVER_UNKEYED_US = 18
_REPLAYED = b"x-idempotent-replayed"
_REPLAYED_KEYS = 64
_turns = itertools.count()


def _keyed_order(key: str) -> bytes:
    return http_request("POST", "/orders", f"Idempotency-Key: {key}", body=ORDER)


def _first_times(name: str) -> Recipe:
    """A key of its own for each request; none may come back as a replay."""
    before, after = _keyed_order(f"{name}-#").split(b"#")
    numbers = itertools.count()
    return Recipe(
        lambda: b"%s%012d%s" % (before, next(numbers), after),
        POST_ORDER.status,
        POST_ORDER.body_bytes,
        without_field=_REPLAYED,
    )


def _replays(port: int) -> Recipe:
    """A few keys in turn, all settled just before; every answer must be a replay."""
    turn = next(_turns)  # others' may have had to go: a store in memory is bounded, and first times are many
    requests = [_keyed_order(f"settled-{turn}-{number}") for number in range(_REPLAYED_KEYS)]
    for request in requests:
        probe(port, request)
    endless = itertools.cycle(requests)
    return Recipe(lambda: next(endless), POST_ORDER.status, POST_ORDER.body_bytes, with_field=_REPLAYED)


def keyed_turns(proxy: Proxy, settings: Settings) -> dict[str, Callable[[], float]]:
    """Turns named ``NAME, first time`` and ``NAME, replay``."""

    def turn_of_replays() -> float:
        return cpu_us(proxy, _replays(proxy.port), settings)()

    return {
        f"{proxy.name}, first time": cpu_us(proxy, _first_times(proxy.name), settings),
        f"{proxy.name}, replay": turn_of_replays,
    }


def over_unkeyed(case: str, store: str, measured: dict[str, list[float]]) -> list[Row]:
    """Rows for both kinds of keyed request of the contender ``sidecar`` over the turn ``unkeyed``."""
    return [
        difference_row(
            case,
            f"keyed POST, {store}, {which}",
            "µs",
            ours=measured[f"sidecar, {which}"],
            against="sidecar, unkeyed",
            theirs=measured["unkeyed"],
            limit=_OVER_UNKEYED_US,
        )
        for which in ("first time", "replay")
    ]
