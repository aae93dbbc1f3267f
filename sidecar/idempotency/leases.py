"""Renewal of all running executions' leases by one task."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sidecar.idempotency.core import RecordUnreadableError
from sidecar.idempotency.execution import NEVER, RENEWALS_PER_LEASE
from sidecar.idempotency.store import Granted, Settled, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.clock import Clock
    from sidecar.idempotency.execution import Execution
    from sidecar.idempotency.store import IdempotencyStore

_TICK = 0.25  # seconds; a lease is at least one second
_BATCH = 1000

_logger = logging.getLogger(__name__)


class Leases:
    """Keeps the claims of running executions alive.

    Most executions end long before their first renewal, so nothing is done for them but to look at them:
    once a tick, at all that run.

    Args:
        store: Where the leases are.
        running: Executions of this process by record id.
        clock: For when a renewal is due.
    """

    __slots__ = ("_clock", "_running", "_store")

    def __init__(self, store: IdempotencyStore, running: Mapping[str, Execution], clock: Clock) -> None:
        self._store = store
        self._running = running
        self._clock = clock

    async def run(self) -> None:
        """Renew what is due until cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            await self.renew_due()

    async def renew_due(self) -> None:
        """Renew every lease that has used up a third of its time."""
        now = self._clock.monotonic()
        due = [execution for execution in self._running.values() if execution.renew_at <= now]
        for start in range(0, len(due), _BATCH):
            # Whatever was settled while an earlier batch was away needs no renewal any more.
            batch = [execution for execution in due[start : start + _BATCH] if execution.renew_at <= now]
            try:
                await self._renew(batch)
            except StoreError as error:
                _logger.warning("cannot renew the leases of %d executions: %s", len(due) - start, error)
                return  # they stay due: the next tick tries again

    async def _renew(self, batch: Sequence[Execution]) -> None:
        verdicts = await self._store.renew([execution.claim for execution in batch])
        for execution, verdict in zip(batch, verdicts, strict=True):
            if execution.renew_at == NEVER:
                continue  # settled meanwhile
            if verdict is Settled.DONE:
                execution.renew_at = self._clock.monotonic() + execution.claim.lease / RENEWALS_PER_LEASE
            elif verdict is Settled.GONE:
                await self._claim_again(execution)
            else:
                execution.renew_at = NEVER
                _logger.warning("%r has lost its lease; its result is stored if nothing else was", execution)

    async def _claim_again(self, execution: Execution) -> None:
        """The store has lost the record of a request that runs: claim its place again before another does."""
        execution.renew_at = self._clock.monotonic() + execution.claim.lease / RENEWALS_PER_LEASE
        try:
            granted = await self._store.claim(execution.claim)
        except RecordUnreadableError:
            granted = None
        if isinstance(granted, Granted):
            _logger.warning("the store had lost the record of %r; it was claimed again", execution)
        else:
            execution.renew_at = NEVER
