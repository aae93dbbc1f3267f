"""Keyed POSTs through Redis, beside unkeyed ones and beside nginx with Lua doing the same simple job."""

from __future__ import annotations

from bench.cases.common import POST_ORDER, cpu_us, where_installed
from bench.cases.keyed import keyed_turns, over_unkeyed
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.peers import nginx_lua, sidecar
from bench.servers import redis, upstream

_LIMITS = {"first time": 0.65, "replay": 0.85}


def run(settings: Settings) -> list[Row]:
    """Records in Redis, whose own CPU time counts for nobody."""
    with Stage() as stage:
        port, store = upstream.start(stage), redis.start(stage)
        proxy = sidecar.start(stage, port, store=f"redis://127.0.0.1:{store}")
        turns = {"unkeyed": cpu_us(proxy, POST_ORDER, settings), **keyed_turns(proxy, settings)}
        peers = where_installed(lambda: nginx_lua.start(stage, port, store))
        for peer in peers:
            turns |= keyed_turns(peer, settings)
        measured = take_turns(turns, settings.rounds)
    rows = over_unkeyed("keyed-redis", "Redis", measured)
    return rows + [
        ratio_row(
            "keyed-redis",
            f"keyed POST, Redis, {which}",
            "µs",
            ours=measured[f"sidecar, {which}"],
            against=f"{peer.name}+Redis",
            theirs=measured[f"{peer.name}, {which}"],
            limit=limit,
        )
        for peer in peers
        for which, limit in _LIMITS.items()
    ]
