"""The bulkhead for functions."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sidecar.bulkhead.core import COMMON_CELLS, OWN_CELLS, Permits
from sidecar.bulkhead.waiting import RETRY_AFTER, Waiter, acquire, wake
from sidecar.calling import Policy
from sidecar.errors import BulkheadFull
from sidecar.scoreboard.row import Row


@dataclass(frozen=True, slots=True)
class BulkheadStats:
    """A bulkhead at one moment.

    Attributes:
        in_use: Calls under way.
        limit: Calls that may be.
        waiting: Calls in the queue.
    """

    in_use: int
    limit: int
    waiting: int


class Bulkhead(Policy):
    """Bounds how many calls run at once.

    Every form shares the same permits::

        bulkhead = Bulkhead(name="reports", max_concurrent=10)

        result = await bulkhead.execute(make_report, month)

        @bulkhead
        async def make_report(month): ...

        async with bulkhead:
            ...

    Async callers wait in a queue, first come, first served. Plain functions and ``with`` do not wait: they
    are refused as soon as all permits are in use. So is a lambda around an async function; give the
    function itself where it shall wait. Whoever is refused gets :class:`~sidecar.errors.BulkheadFull`,
    whose ``reason`` is ``full``, ``queue_full`` or ``queue_timeout``. Threads and event loops may share a
    bulkhead.

    Args:
        name: For messages and ``repr``.
        max_concurrent: Calls at once, at least 1.
        max_queue: Async calls that may wait, at least 0.
        queue_timeout: Seconds that one waits at most.

    Raises:
        ValueError: A value is out of its range.
    """

    __slots__ = ("_permits", "_queue_timeout", "name")

    def __init__(
        self,
        name: str = "",
        *,
        max_concurrent: int = 100,
        max_queue: int = 100,
        queue_timeout: float = 0.1,
    ) -> None:
        if queue_timeout < 0:
            raise ValueError(f"queue_timeout must not be negative, got {queue_timeout}")
        self.name = name
        self._queue_timeout = queue_timeout
        self._permits = _ThreadSafePermits(
            max_concurrent,
            max_queue,
            grant=self._grant,
            row=Row.private(common=COMMON_CELLS, own=OWN_CELLS, lock=threading.RLock()),
        )

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<Bulkhead {self.name or '-'} {stats.in_use}/{stats.limit} in use, {stats.waiting} waiting>"

    def stats(self) -> BulkheadStats:
        """Calls under way and waiting."""
        return BulkheadStats(self._permits.in_use, self._permits.limit, self._permits.waiting)

    def begin(self) -> None:
        """Take a permit at once.

        Raises:
            BulkheadFull: There is none.
        """
        if not self._permits.try_acquire():
            raise BulkheadFull(
                f"Bulkhead {self.name or '-'} has all its {self._permits.limit} calls under way",
                reason="full",
                retry_after=RETRY_AFTER,
            )

    async def begin_async(self) -> None:
        """Take a permit, waiting for it if need be.

        Raises:
            BulkheadFull: The queue is full, or the wait in it was too long.
        """
        if not self._permits.try_acquire():
            await acquire(self._permits, self._queue_timeout)

    def end(self, call: None, error: BaseException | None) -> None:  # noqa: ARG002 - every outcome frees it
        """Give the permit back."""
        self._permits.release()

    def _grant(self, waiter: Waiter) -> None:
        """Wake a waiter, which may be another thread's."""
        try:
            waiter.get_loop().call_soon_threadsafe(wake, waiter)
        except RuntimeError:  # its loop is closed, so nobody will use the permit
            self._permits.release()


class _ThreadSafePermits(Permits[Waiter]):
    """Permits whose fast path takes the row's lock, too. That lock must be reentrant."""

    __slots__ = ()

    def try_acquire(self) -> bool:
        with self.row.lock:
            return super().try_acquire()

    def release(self) -> None:
        with self.row.lock:
            super().release()
