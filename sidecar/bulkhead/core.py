"""Permits for calls that run at once, and the queue of those who wait for one.

Waiters are opaque, hashable handles: the core never awaits, it calls ``grant(waiter)``. A permit belongs to
a waiter from the moment it leaves the queue, so whoever gives up asks :meth:`Permits.withdraw` and learns
which of the two happened first; no permit can be lost between them.

With several workers the permits hold for the sidecar as a whole (see :mod:`sidecar.scoreboard.row`). To
take one without a lock, a worker first adds to its own cell and then adds up everybody's; only if no room
for one more call of each worker is left does it look again under the lock. The waiters form one queue, too:
a free permit goes to the worker whose first waiter has waited longest, and newcomers do not overtake. A
worker hears by ``ring`` that it is its turn.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sidecar.scoreboard.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

W = TypeVar("W", bound="Hashable")

# Common cells.
_LIMIT: Final = 0
_QUEUED: Final = 1  # waiters of all workers, as it was when the lock was last given back
COMMON_CELLS: Final = 2

# Own cells.
_IN_USE: Final = 0
_STREAMS: Final = 1
_WAITING: Final = 2
_OLDEST: Final = 3  # since when this worker's first waiter has waited, in microseconds of the monotonic clock
OWN_CELLS: Final = 4


def _check_bounds(limit: int, max_queue: int) -> None:
    if limit < 1 or max_queue < 0:
        raise ValueError(f"expected permits from 1 and a queue from 0, got {limit} and {max_queue}")


def _nobody(_: int) -> None:
    """There is no other worker to ring."""


class Permits(Generic[W]):
    """A bulkhead's permits. Not safe for threads.

    Every successful :meth:`try_acquire`, and every grant, is answered by exactly one :meth:`release` or
    :meth:`begin_stream`.

    Args:
        max_concurrent: Permits in all, at least 1.
        max_queue: Waiters in all, at least 0.
        grant: Told of a waiter that now holds a permit; must not raise.
        row: Where the numbers are kept; a private one by default.
        ring: Called with the index of another worker whose turn it is; that worker then calls
            :meth:`hand_out`.

    Raises:
        ValueError: A bound is out of its range.
    """

    __slots__ = ("_alone", "_cells", "_grant", "_max_queue", "_mine", "_queue", "_ring", "row")

    def __init__(
        self,
        max_concurrent: int,
        max_queue: int,
        *,
        grant: Callable[[W], None],
        row: Row | None = None,
        ring: Callable[[int], None] = _nobody,
    ) -> None:
        self.row = row = row or Row.private(common=COMMON_CELLS, own=OWN_CELLS)
        self._cells = row.cells
        self._mine = row.mine
        self._alone = len(row.everyone) == 1
        self._grant = grant
        self._ring = ring
        self._queue: OrderedDict[W, int] = OrderedDict()
        self._max_queue = max_queue
        _check_bounds(max_concurrent, max_queue)
        with row.lock:
            # A worker that comes later leaves the limit as the others have it, which may be an adaptive one.
            row.cells[_LIMIT] = row.cells[_LIMIT] or max_concurrent

    def __repr__(self) -> str:
        return f"<Permits {self.in_use}/{self.limit} in use, {self.waiting} waiting, {self.streams} streams>"

    # The path of every call.

    def try_acquire(self) -> bool:
        """Take a permit if one is free and nobody waits for it."""
        cells, mine = self._cells, self._mine
        if not self._alone:
            return self._try_acquire_among_workers()
        # Alone, a free permit means an empty queue: hand_out leaves no other state behind.
        if cells[mine] < cells[_LIMIT]:
            cells[mine] += 1
            return True
        return False

    def release(self) -> None:
        """Give a permit back; the first waiter gets it."""
        cells = self._cells
        cells[self._mine] -= 1
        if cells[_QUEUED]:
            self.hand_out()

    # Waiting.

    def enqueue(self, waiter: W, now: float) -> bool:
        """Wait for a permit at the queue's end; false if the queue is full.

        The permit may be granted before this returns, if one has become free in the meantime.
        """
        with self.row.lock:
            if self.waiting >= self._max_queue:
                return False
            self._queue[waiter] = int(now * 1e6)
            self._publish_queue()
        self.hand_out()
        return True

    def withdraw(self, waiter: W) -> bool:
        """Leave the queue. False if the waiter is no longer in it: then it holds a permit."""
        with self.row.lock:
            if self._queue.pop(waiter, None) is None:
                return False
            self._publish_queue()
        if not self._alone:
            # A permit may have been kept free for this waiter, and it is now another worker's turn.
            self.hand_out()
        return True

    def hand_out(self) -> None:
        """Grant free permits to those who have waited longest."""
        granted: list[W] = []
        with self.row.lock:
            next_worker = self._serve(granted)
            self._publish_queue()
        for waiter in granted:
            self._grant(waiter)
        if next_worker is not None:
            self._ring(next_worker)

    # Long-lived streams: a tunnel or an event stream would hold its permit for hours.

    def begin_stream(self) -> None:
        """Turn a permit into a stream, which is counted but not limited."""
        self._cells[self._mine + _STREAMS] += 1
        self.release()

    def end_stream(self) -> None:
        """A stream has ended."""
        self._cells[self._mine + _STREAMS] -= 1

    # Figures, over all workers.

    @property
    def limit(self) -> int:
        """Permits in all."""
        return self._cells[_LIMIT]

    @property
    def in_use(self) -> int:
        """Permits in use. Above :attr:`limit` for a while after it was lowered."""
        return self.row.total(_IN_USE)

    @property
    def own(self) -> int:
        """Permits, waiters and streams of this process."""
        return sum([self._cells[self._mine + offset] for offset in (_IN_USE, _WAITING, _STREAMS)])

    @property
    def waiting(self) -> int:
        """Waiters in the queue."""
        return self.row.total(_WAITING)

    @property
    def streams(self) -> int:
        """Long-lived streams under way."""
        return self.row.total(_STREAMS)

    def resize(self, limit: int, max_queue: int | None = None) -> None:
        """Change the bounds. Permits in use beyond a lower limit are not taken away, waiters stay.

        Raises:
            ValueError: ``limit`` is below 1 or ``max_queue`` below 0.
        """
        self._max_queue = self._max_queue if max_queue is None else max_queue
        _check_bounds(limit, self._max_queue)
        with self.row.lock:
            self._cells[_LIMIT] = limit
        self.hand_out()

    # Among workers.

    def _try_acquire_among_workers(self) -> bool:
        cells, mine = self._cells, self._mine
        cells[mine] += 1
        # Each worker may at this moment be adding one that is not seen yet.
        if self.in_use + len(self.row.everyone) <= cells[_LIMIT] and not cells[_QUEUED]:
            return True
        with self.row.lock:
            if self.in_use <= cells[_LIMIT] and not cells[_QUEUED]:
                return True
            cells[mine] -= 1
        self.hand_out()
        return False

    def _serve(self, granted: list[W]) -> int | None:
        """Under the lock: take waiters off the own queue, and say which worker's turn it is then."""
        cells = self._cells
        while self.in_use < cells[_LIMIT]:
            worker = self._longest_waiting()
            if worker is None:
                return None
            if self.row.everyone[worker] != self._mine:
                return worker
            waiter, _ = self._queue.popitem(last=False)
            self._publish_queue()
            cells[self._mine] += 1
            granted.append(waiter)
        return None

    def _longest_waiting(self) -> int | None:
        cells = self._cells
        waiting = [
            (cells[own + _OLDEST], worker)
            for worker, own in enumerate(self.row.everyone)
            if cells[own + _WAITING]
        ]
        return min(waiting)[1] if waiting else None

    def _publish_queue(self) -> None:
        self._cells[self._mine + _WAITING] = len(self._queue)
        self._cells[self._mine + _OLDEST] = next(iter(self._queue.values()), 0)
        self._cells[_QUEUED] = self.waiting
