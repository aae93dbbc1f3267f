"""The recorder: takes what exchanges tell, and sees to it that each change has its row, once and in order.

``best_effort``: an exchange leaves its bytes in a bounded buffer and goes on; a moment later they become
rows in the spool, off the event loop. ``required``: the intent is on the disk before the request is
forwarded, the outcome before the response is given. Either way the spool is the one road to PostgreSQL.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sidecar.audit.record import INTENTS, REJECTED, ROWS, Rejection
from sidecar.audit.sources import Rejected
from sidecar.errors import AuditUnavailable
from sidecar.spool import SpoolError, SpoolFull
from sidecar.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from sidecar.audit.delivery import Delivery
    from sidecar.audit.intent import Intent
    from sidecar.log import Log
    from sidecar.spool.spool import Spool

_T = TypeVar("_T")

_GATHER: Final = 0.1
"""Seconds in which ended exchanges come together before they are looked at: one look for many."""

_CHUNK: Final = 32
"""Exchanges that become rows in one go. The event loop may wait for the interpreter that long, 1 ms."""

_REST: Final = 0.0005
"""Seconds between two chunks, in which the event loop can take the interpreter; else it waits 5 ms for it."""

_BATCH: Final = 512
"""Exchanges that become rows, and are appended to the spool, together."""

_MAX_PENDING: Final = 20_000
_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
_RETRY: Final = 1.0
_LARGE_BODY: Final = 16 * 1024


class Recorder:
    """Records audited exchanges. Made and used in one event loop.

    Args:
        spool: An open spool.
        delivery: Takes rows from the spool to the database.
        log: Told of what cannot become a row.
        rejected: Called with a reason for each change without a row: those of
            :class:`~sidecar.audit.sources.Rejected`, ``queue_full``, ``spool_full``, ``spool_unavailable``.
    """

    def __init__(
        self, spool: Spool, delivery: Delivery, *, log: Log, rejected: Callable[[str], None]
    ) -> None:
        self._spool = spool
        self._delivery = delivery
        self._log = log
        self._rejected = rejected
        self._pending: deque[Intent] = deque()
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[Any]] = set()

    # -- lifetime ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [
            asyncio.create_task(self._collect(), name="audit-collect"),
            asyncio.create_task(self._delivery.run(), name="audit-deliver"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._report_death)

    async def close(self, patience: float) -> None:
        """Put everything into the spool, then spend up to ``patience`` seconds on writing it to the database.

        What is still in the spool is written after the next start.
        """
        self._closing = True
        self._wake.set()
        collect, deliver = self._tasks
        await asyncio.gather(collect, return_exceptions=True)
        await end([deliver])
        finishing = asyncio.create_task(self._finish(), name="audit-finish")
        _done, late = await asyncio.wait([finishing], timeout=patience)
        if late:
            await end(late)
            self._log.warning("audit_rows_left_in_spool", waiting=self.depth())
        else:
            finishing.result()
        await self._delivery.close()
        self._threads.shutdown()

    async def _finish(self) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._delivery.drain()

    # -- figures -----------------------------------------------------------------------------------------

    def lag(self) -> float:
        """Seconds that the oldest row has been waiting for the database; 0 if none waits."""
        return self._spool.oldest_age(ROWS)

    def depth(self) -> int:
        """Number of rows that wait for the database."""
        return self._spool.depth(ROWS) + len(self._pending)

    # -- best effort -------------------------------------------------------------------------------------

    def put(self, intent: Intent) -> None:
        """Take an exchange that has ended; never waits. What the buffer cannot hold is counted and lost."""
        size = self._pending_bytes + intent.size
        if size > _MAX_PENDING_BYTES or len(self._pending) >= _MAX_PENDING:
            self._rejected("queue_full")
            return
        self._pending_bytes = size
        if not self._pending:
            self._wake.set()  # else who takes them has not been through with them
        self._pending.append(intent)

    async def _collect(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._closing:
                await asyncio.sleep(_GATHER)
            while self._pending:
                await self._store_batch()
            if self._closing:
                return

    def _take_batch(self) -> list[Intent]:
        count = min(_BATCH, len(self._pending))
        batch = [self._pending.popleft() for _ in range(count)]
        self._pending_bytes -= sum(intent.size for intent in batch)
        return batch

    async def _store_batch(self) -> None:
        rows, rejections = await self._in_thread(_make_rows, self._take_batch())
        if rejections:
            await self._keep(rejections)
        if rows:
            try:
                await self._spool.append_many(ROWS, rows)
            except SpoolError as error:
                self._log.error("audit_rows_lost", count=len(rows), error=str(error))
                for _ in rows:
                    self._rejected(_reason(error))
            self._delivery.notify()

    # -- required ----------------------------------------------------------------------------------------

    async def secure(self, intent: Intent) -> None:
        """Make the intent durable.

        Raises:
            AuditUnavailable: There would be no row for this change; it must not be made.
        """
        try:
            row = await self._in_thread(intent.draft) if intent.size > _LARGE_BODY else intent.draft()
        except Rejected as rejected:
            self._rejected(rejected.reason)
            raise AuditUnavailable(
                f"the audit row cannot be filled: {rejected.field}: {rejected}", reason=rejected.reason
            ) from rejected
        append = self._own(self._spool.append(INTENTS, row.encode(), owned=True))
        try:
            intent.item = await asyncio.shield(append)
        except SpoolError as error:
            self._rejected(_reason(error))
            raise AuditUnavailable(
                f"the audit trail cannot be written: {error}", reason=_reason(error)
            ) from error
        except asyncio.CancelledError:
            # The request goes no further: nothing happens that would need a row.
            self._own(self._withdraw_unseen(append))
            raise

    async def settle(self, intent: Intent) -> None:
        """Make the outcome durable. If the spool fails now, it is tried again in the background.

        The change has been made and its response is true, whatever the disk says. Should the process end
        before the disk has recovered, the intent stands for the change, with an unknown outcome.
        """
        queue, payload = await self._final(intent)
        await asyncio.shield(self._own(self._once(lambda: self._spool.move(intent.item, queue, payload))))
        self._delivery.notify()

    async def withdraw(self, intent: Intent) -> None:
        """Forget an intent whose request was not sent, or whose answer makes no row."""
        await asyncio.shield(self._own(self._once(lambda: self._spool.remove(intent.item))))

    async def _final(self, intent: Intent) -> tuple[str, bytes]:
        """Where a settled intent goes, and as what."""
        try:
            row = await self._in_thread(intent.complete) if intent.size > _LARGE_BODY else intent.complete()
        except Rejected as rejected:
            rejection = _rejection(intent, rejected)
            self._note(rejection)
            return REJECTED, rejection.encode()
        return ROWS, row.encode()

    async def _withdraw_unseen(self, append: asyncio.Future[int]) -> None:
        """Remove what an append that nobody waits for any more has put into the spool."""
        try:
            item = await append
        except SpoolError:
            return
        await self._once(lambda: self._spool.remove(item))

    async def _once(self, operation: Callable[[], Awaitable[Any]]) -> None:
        """Do it now; if the spool fails, go on trying behind the caller's back."""
        try:
            await operation()
        except SpoolError as error:
            self._log.error("audit_outcome_waits", error=str(error))
            self._own(self._insist(operation))

    async def _insist(self, operation: Callable[[], Awaitable[Any]]) -> None:
        while True:
            await asyncio.sleep(_RETRY)
            try:
                await operation()
            except SpoolError:
                continue
            self._delivery.notify()
            return

    # -- rejections --------------------------------------------------------------------------------------

    def _note(self, rejection: Rejection) -> None:
        self._rejected(rejection.reason)
        self._log.error(
            "audit_row_rejected",
            reason=rejection.reason,
            field=rejection.field,
            message=rejection.message,
            route=rejection.route,
            row=rejection.row.id,
            correlation_id=rejection.row.correlation_id,
        )

    async def _keep(self, rejections: list[Rejection]) -> None:
        for rejection in rejections:
            self._note(rejection)
        try:
            await self._spool.append_many(REJECTED, [rejection.encode() for rejection in rejections])
        except SpoolError as error:
            self._log.error("audit_rejections_lost", count=len(rejections), error=str(error))

    # -- helpers -----------------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _own(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run ``work`` to its end even if nobody waits for it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _report_death(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.crash("audit_stopped", error, task=task.get_name())


def _make_rows(intents: list[Intent]) -> tuple[list[bytes], list[Rejection]]:
    """What comes of exchanges that have ended: encoded rows, and those that cannot be rows."""
    rows: list[bytes] = []
    rejections: list[Rejection] = []
    for number, intent in enumerate(intents, start=1):
        try:
            rows.append(intent.complete().encode())
        except Rejected as rejected:
            rejections.append(_rejection(intent, rejected))
        if number % _CHUNK == 0:
            time.sleep(_REST)
    return rows, rejections


def _rejection(intent: Intent, rejected: Rejected) -> Rejection:
    assert intent.row is not None
    return Rejection(
        reason=rejected.reason,
        field=rejected.field,
        message=str(rejected),
        route=intent.route,
        row=intent.row,
    )


def _reason(error: SpoolError) -> str:
    return "spool_full" if isinstance(error, SpoolFull) else "spool_unavailable"
