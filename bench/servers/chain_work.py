"""What guards a request that succeeds, in a process of its own; prints CPU microseconds as JSON.

``chain``: a place among the active requests (of which the retry budget is a share), a permit of the bulkhead,
a host and its breaker's permit, a deadline, and the outcome, in the order and with the calls of
:mod:`sidecar.proxy` and :mod:`sidecar.attempts`.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from bench.servers.timing import microseconds
from sidecar.balancing import Host, RoundRobin
from sidecar.breaker.core import Breaker
from sidecar.bulkhead.core import Permits
from sidecar.health import Health
from sidecar.net.deadlines import NEVER, Deadlines
from sidecar.retry.budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable


class _Exchange:
    """Has a deadline, as :meth:`sidecar.exchange.Exchange.arm` moves it."""

    __slots__ = ("deadline", "looked_at")

    def __init__(self) -> None:
        self.deadline = self.looked_at = NEVER

    def expire(self, now: float) -> None:
        """It never comes to that."""


def _chain(loop: asyncio.AbstractEventLoop) -> Callable[[], object]:
    budget = RetryBudget()
    permits: Permits[object] = Permits(100, 100, grant=lambda _: None)
    balancer = RoundRobin([Host(Breaker(), Health())])
    deadlines = Deadlines(loop)
    exchange = _Exchange()

    def one_request() -> None:
        budget.request_started()
        permits.try_acquire()
        now = time.monotonic()
        picked = balancer.pick(now, None)
        assert picked is not None
        host, permit = picked
        exchange.deadline = loop.time() + 10.0
        if exchange.deadline < exchange.looked_at:
            deadlines.watch(exchange)
        head_at = time.monotonic()
        host.breaker.succeeded(permit, head_at, head_at - now)
        permits.release()
        exchange.deadline = NEVER
        budget.request_ended()

    return one_request


if __name__ == "__main__":
    runner = asyncio.Runner()
    print(json.dumps({"chain": microseconds(_chain(runner.get_loop()))}))
    runner.close()
