"""Renewal of all running executions' leases by one task."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sidecar.idempotency.core import RecordUnreadableError
from sidecar.idempotency.store import Granted, Settled, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.clock import Clock
    from sidecar.idempotency.execution import Execution
    from sidecar.idempotency.store import IdempotencyStore

_RENEWALS_PER_LEASE = 3  # two of them may fail before a lease runs out
_TICK = 0.25  # seconds; a lease is at least one second
_BATCH = 1000

_logger = logging.getLogger(__name__)


class Leases:
    """Keeps the claims of running executions alive.

    Most executions end long before their first renewal, so taking one in and letting it go is all that they
    cost: executions with the same length of lease stand in a queue in the order in which they are due.
    """

    __slots__ = ("_clock", "_queues", "_store")

    def __init__(self, store: IdempotencyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._queues: dict[float, dict[Execution, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def hold(self, execution: Execution) -> None:
        """Renew the execution's lease from now on."""
        lease = execution.claim.lease
        queue = self._queues.get(lease)
        if queue is None:
            queue = self._queues[lease] = {}
        queue[execution] = self._clock.monotonic() + lease / _RENEWALS_PER_LEASE

    def let_go(self, execution: Execution) -> None:
        """Stop renewing it. The write that settles the execution comes after this, never before."""
        queue = self._queues.get(execution.claim.lease)
        if queue is not None:
            queue.pop(execution, None)

    async def run(self) -> None:
        """Renew what is due until cancelled."""
        while True:
            await asyncio.sleep(_TICK)
            await self.renew_due()

    async def renew_due(self) -> None:
        """Renew every lease that has used up a third of its time."""
        now = self._clock.monotonic()
        due = [execution for queue in self._queues.values() for execution in _due(queue, now)]
        for start in range(0, len(due), _BATCH):
            batch = [execution for execution in due[start : start + _BATCH] if self._holds(execution)]
            try:
                await self._renew(batch)
            except StoreError as error:
                _logger.warning("cannot renew the leases of %d executions: %s", len(due) - start, error)
                return  # they stay due: the next tick tries again

    async def _renew(self, batch: Sequence[Execution]) -> None:
        verdicts = await self._store.renew([execution.claim for execution in batch])
        for execution, verdict in zip(batch, verdicts, strict=True):
            if not self._holds(execution):
                continue  # settled meanwhile
            self.let_go(execution)
            if verdict is Settled.DONE:
                self.hold(execution)
            elif verdict is Settled.GONE:
                await self._claim_again(execution)
            else:
                _logger.warning(
                    "%r has lost its lease; its result will be stored if nothing else was", execution
                )

    async def _claim_again(self, execution: Execution) -> None:
        """The store has lost the record of a request that runs: claim its place again before another does."""
        self.hold(execution)
        try:
            granted = await self._store.claim(execution.claim)
        except RecordUnreadableError:
            granted = None
        if isinstance(granted, Granted):
            _logger.warning("the store had lost the record of %r; it was claimed again", execution)
        else:
            self.let_go(execution)

    def _holds(self, execution: Execution) -> bool:
        return execution in self._queues.get(execution.claim.lease, ())


def _due(queue: dict[Execution, float], now: float) -> list[Execution]:
    due = []
    for execution, when in queue.items():
        if when > now:
            break
        due.append(execution)
    return due
