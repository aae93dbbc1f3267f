"""How many dead letters there are, and how old: known to the store alone, so it is asked at each scrape."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.clock import Clock
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.metrics.names import Metrics

    Ask = Callable[..., Awaitable[Any]]
    """Sends one command to Redis: its key, then its words, all bytes."""

_PATIENCE_SECONDS: Final = 0.5
_MOST_QUEUES: Final = 1000

_logger = logging.getLogger(__name__)


class Depth(NamedTuple):
    """A queue at one moment.

    Attributes:
        records: How many dead letters it has.
        oldest_at: When the oldest was stored, in seconds since the Unix epoch.
    """

    records: int
    oldest_at: float


class Figures:
    """``dlq_depth`` and ``dlq_oldest_age_seconds``.

    Redis is asked with a few plain commands over a connection that is there anyway: a driver of its own, for
    figures alone, would cost every sidecar ten mebibytes.

    Args:
        metrics: Where the figures are read.
        ask: Sends a command to Redis, if that is the store.
        store: Gives the memory store, once it has been used.
        clock: Tells the age.
    """

    def __init__(
        self,
        metrics: Metrics,
        ask: Ask | None,
        store: Callable[[], DeadLetterStore | None],
        clock: Clock,
    ) -> None:
        self._ask = ask
        self._store = store
        self._clock = clock
        self._depths: dict[tuple[str, str], Depth] = {}
        self._looking = asyncio.Lock()
        metrics.dlq_depth.collect_from(
            lambda: [(name, depth.records) for name, depth in self._depths.items()]
        )
        metrics.dlq_oldest_age_seconds.collect_from(
            lambda: [(name, self._age(depth)) for name, depth in self._depths.items()]
        )

    async def refresh(self, max_age: float) -> None:
        """Look again, for half a second at most; on trouble the figures stay as they are.

        Args:
            max_age: Seconds that dead letters are kept.
        """
        async with self._looking:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    found = await self._look(max_age)
            except Exception as error:  # noqa: BLE001 - no trouble here may cost the other figures
                _logger.warning("figures of dead letters are old: %s: %s", type(error).__name__, error)
                return
            # A queue that is empty by now shows it: one that vanished would leave alerts in the dark.
            self._depths = {**dict.fromkeys(self._depths, Depth(0, 0.0)), **found}

    async def _look(self, max_age: float) -> dict[tuple[str, str], Depth]:
        if self._ask is not None:
            return await self._look_into_redis(self._ask, max_age)
        store = self._store()
        queues = [] if store is None else await store.queues()
        return {(name.service, name.event_type): Depth(depth, oldest) for name, depth, oldest in queues}

    async def _look_into_redis(self, ask: Ask, max_age: float) -> dict[tuple[str, str], Depth]:
        """The layout is that of :mod:`sidecar.dlq.redis`; what is past its age counts no more."""
        index = b"dlq:index"
        members = sorted(await ask(index, b"SMEMBERS", index))[:_MOST_QUEUES]
        oldest = b"%d" % round((self._clock.wall() - max_age) * 1e6)
        found = {}
        for member in members:
            records = b"dlq:" + member
            order = b"dlq-time:{%b}" % records
            count, places, fresh, first = await asyncio.gather(
                ask(records, b"HLEN", records),
                ask(order, b"ZCARD", order),
                ask(order, b"ZCOUNT", order, oldest, b"+inf"),
                ask(order, b"ZRANGEBYSCORE", order, oldest, b"+inf", b"WITHSCORES", b"LIMIT", b"0", b"1"),
            )
            service, _, event_type = member.decode().rpartition(":")
            stored_at = float(first[1]) / 1e6 if first else self._clock.wall()
            found[service, event_type] = Depth(max(0, count - (places - fresh)), stored_at)
        return found

    def _age(self, depth: Depth) -> float:
        return max(0.0, self._clock.wall() - depth.oldest_at) if depth.records else 0.0
