"""The store as the sidecar's operators see it: can it be reached, and can it keep what is promised?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.store import IdempotencyStore
    from sidecar.log import Log

FRESH: Final = 1.0
"""Seconds that what was seen of the store counts as the present."""

_LONGEST_PAUSE: Final = 30.0


class StoreWatch:
    """Looks at the store, however often it is asked, at most once a second.

    Args:
        store: Where idempotency records live.
        patience: Seconds that the store may be silent before it counts as down.
        clock: Tells when the last look was.
    """

    def __init__(self, store: IdempotencyStore, *, patience: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._patience = patience
        self._clock = clock
        self._looking = asyncio.Lock()
        self._seen_at: float | None = None
        self._problem = ""

    async def problem(self) -> str:
        """Why the store cannot be used, or an empty string; who asks meanwhile waits for the same look."""
        async with self._looking:
            now = self._clock.monotonic()
            if self._seen_at is None or now - self._seen_at >= FRESH:
                self._problem = await self._look()
                self._seen_at = self._clock.monotonic()
            return self._problem

    async def _look(self) -> str:
        try:
            async with asyncio.timeout(self._patience):
                await self._store.check()
        except StoreError as error:
            return str(error)
        except TimeoutError:
            return f"the store has been silent for {self._patience:g} s"
        return ""

    async def advise(self, log: Log) -> None:
        """Warn of whatever weakens the guarantee; a store that is away is asked when it is back."""
        pause = FRESH
        while True:
            try:
                for weakness in await self._store.weaknesses():
                    log.warning("store", message=weakness)
            except StoreError as error:
                if pause == FRESH:
                    log.warning("store unreachable", message=str(error))
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def requires_store(policies: Iterable[RoutePolicy]) -> bool:
    """Whether requests are refused while the store is down: some route protects keys and fails closed."""
    return any(policy.enabled and not policy.store_open for policy in policies)
