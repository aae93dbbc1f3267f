"""What is measured, in the order in which it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases import (
    audit_trail,
    chain,
    dead_letters,
    events,
    idle_connections,
    keyed_memory,
    keyed_redis,
    large_response,
    many_records,
    many_routes,
    observed,
    open_breaker,
    slow_bodies,
    small_get,
    start_up,
    traced,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.figures import Row
    from bench.harness import Settings

CASES: dict[str, Callable[[Settings], list[Row]]] = {
    "small-get": small_get.run,
    "large-response": large_response.run,
    "many-routes": many_routes.run,
    "start-up": start_up.run,
    "idle-connections": idle_connections.run,
    "slow-bodies": slow_bodies.run,
    "chain": chain.run,
    "open-breaker": open_breaker.run,
    "keyed-memory": keyed_memory.run,
    "keyed-redis": keyed_redis.run,
    "many-records": many_records.run,
    "traced": traced.run,
    "observed": observed.run,
    "audit-trail": audit_trail.run,
    "events": events.run,
    "dead-letters": dead_letters.run,
}
