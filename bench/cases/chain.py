"""What breaker, retry budget, bulkhead and deadline cost a request that succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.common import work_us
from bench.figures import Row, value_row

if TYPE_CHECKING:
    from bench.harness import Settings

_LIMIT_US = 3


def run(settings: Settings) -> list[Row]:
    """One upstream with one host, nobody waiting, nothing failing: what nearly every request meets."""
    figures = [work_us("bench.servers.chain_work")["chain"] for _ in range(settings.rounds)]
    return [value_row("chain", "breaker, budget, bulkhead, deadline", "µs", figures, _LIMIT_US)]
