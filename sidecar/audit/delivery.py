"""Rows from the spool to PostgreSQL, in order, for as long as it takes.

A row leaves the spool after the database has it. Killed in between, it is written again, and its id keeps
it from standing there twice. Of several workers one delivers; another takes over when that one is gone.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.audit.record import INTENTS, REJECTED, ROWS, AuditRow, Rejection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.log import Log
    from sidecar.spool import Item
    from sidecar.spool.spool import Spool

BATCH: Final = 500
"""Rows in one statement at most."""

_GATHER: Final = 0.25
"""Seconds in which rows come together before they are written: one statement, one commit for many."""

_IDLE: Final = 1.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class RowWriter(Protocol):
    """Where rows go; :class:`sidecar.audit.postgres.PostgresWriter` is the one that is used."""

    async def check(self) -> None:
        """Raise what :meth:`write` would raise, if rows cannot be written now."""

    async def write(self, rows: Sequence[bytes]) -> list[tuple[int, str]]:
        """Write the encoded rows that are not there yet; position and message of each that is refused."""

    async def close(self) -> None:
        """Let the connection go."""


class Delivery:
    """Writes what waits in the spool.

    Args:
        spool: Where rows wait.
        writer: Where they go.
        log: Told of outages and of rows that cannot be written.
        rejected: Called with the reason of each row that cannot be written.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        spool: Spool,
        writer: RowWriter,
        *,
        log: Log,
        rejected: Callable[[str], None],
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._spool = spool
        self._writer = writer
        self._log = log
        self._rejected = rejected
        self._sleep = sleep
        self._arrived = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why rows wait, or nothing."""
        return self._trouble

    def notify(self) -> None:
        """Say that there are rows in the spool."""
        self._arrived.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            if await self.step() < BATCH:
                await self._wait()
                await self._sleep(_GATHER)

    async def step(self) -> int:
        """Move one batch on; returns its size, zero also after a failure, which has been waited for."""
        try:
            if not self._spool.lead(ROWS):
                await self._spool.stats(ROWS)  # whoever delivers empties it unseen
                return 0
            self._arrived.clear()
            # First, also while the database is away: their exchanges ended before those that come now.
            while await self._adopt_orphans() == BATCH:
                pass
            items = await self._spool.peek(ROWS, BATCH)
            done = await self._deliver(items) if items else 0
        except Exception as error:  # noqa: BLE001 - whatever it is, rows must not stop for good
            await self._hold(error)
            return 0
        self._recovered()
        return done

    async def drain(self) -> None:
        """Deliver until nothing waits, or it is another worker's task, or writing fails."""
        while await self.step():
            pass

    async def close(self) -> None:
        """Let the connection go."""
        await self._writer.close()

    async def _deliver(self, items: list[Item]) -> int:
        for position, message in await self._writer.write([item.payload for item in items]):
            await self._reject(items[position], message)
        await self._spool.discard(ROWS, items[-1].id)
        return len(items)

    async def _reject(self, item: Item, message: str) -> None:
        row = AuditRow.decode(item.payload)
        reason = "refused_by_database"
        self._rejected(reason)
        self._log.error(
            "audit_row_rejected",
            reason=reason,
            message=message,
            row=row.id,
            correlation_id=row.correlation_id,
        )
        rejection = Rejection(reason=reason, field="", message=message, route="", row=row)
        await self._spool.move(item.id, REJECTED, rejection.encode())

    async def _adopt_orphans(self) -> int:
        """Let intents of processes that died take their place among the rows: their outcome is unknown."""
        orphans = await self._spool.orphans(INTENTS, BATCH)
        for orphan in orphans:
            await self._spool.move(orphan.id, ROWS, orphan.payload)
        if orphans:
            self._log.warning(
                "audit_outcome_unknown", rows=len(orphans), cause="a process ended before it knew"
            )
        return len(orphans)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_IDLE):
                await self._arrived.wait()
        except TimeoutError:
            pass

    async def _hold(self, error: Exception) -> None:
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            self._log.error("audit_rows_wait", error=trouble, waiting=self._spool.depth(ROWS))
            self._trouble = trouble
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads sidecars out, keeps no secret

    def _recovered(self) -> None:
        if self._trouble:
            self._log.info("audit_rows_written_again", after=self._trouble)
        self._trouble = ""
        self._pause = _FIRST_PAUSE
