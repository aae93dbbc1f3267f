"""Calls of the last seconds, counted in a ring of buckets.

The window is cut into ten slots of equal length, numbered from the clock's origin; a call is counted in the
bucket of its slot. Recording is O(1), adding up is O(buckets). As in every window of this kind the oldest
tenth leaves at once: the sum covers between 90 % and 100 % of the window's length.

Each worker counts into a ring of its own and adds up everybody's. A ring carries the generation that it was
filled for, so that no worker has to clear another's when the breaker changes its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.scoreboard.row import Cells

BUCKETS: Final = 10

# A ring: its generation, then the buckets, each of four cells.
_SLOT, _CALLS, _FAILURES, _SLOW = range(4)
_BUCKET_CELLS: Final = 4
RING_CELLS: Final = 1 + BUCKETS * _BUCKET_CELLS


class WindowTotals(NamedTuple):
    """What happened within the window, over all workers."""

    calls: int
    failures: int
    slow: int


class SlidingWindow:
    """This worker's ring, and a view of the others'.

    Attributes:
        generation: What the own ring is filled for; 0 before :meth:`begin`.
        ends: When the current bucket ends (monotonic seconds). Before that a good call may be counted with
            ``cells[calls] += 1``, which is the whole fast path.
        calls: Position of the current bucket's count of calls.
    """

    __slots__ = ("_cells", "_mine", "_rings", "_width", "calls", "ends", "generation")

    def __init__(self, cells: Cells, *, seconds: float, mine: int, rings: tuple[int, ...]) -> None:
        self._cells = cells
        self._width = seconds / BUCKETS
        self._mine = mine
        self._rings = rings
        self.generation = 0
        self.ends = 0.0
        self.calls = 0

    def begin(self, generation: int) -> None:
        """Empty the own ring and fill it for ``generation`` (positive) from now on."""
        for position in range(self._mine + 1, self._mine + RING_CELLS):
            self._cells[position] = 0
        self._cells[self._mine] = self.generation = generation
        self.ends = 0.0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count one call that ended at ``now``."""
        if now >= self.ends:
            self._turn(now)
        cells, calls = self._cells, self.calls
        cells[calls] += 1
        if failed:
            cells[calls + _FAILURES - _CALLS] += 1
        if slow:
            cells[calls + _SLOW - _CALLS] += 1

    def totals(self, now: float, generation: int) -> WindowTotals:
        """All workers' calls of ``generation`` within the window that ends at ``now``."""
        cells = self._cells
        oldest = int(now / self._width) - BUCKETS + 1
        calls = failures = slow = 0
        for ring in self._rings:
            if cells[ring] != generation:
                continue
            for bucket in range(ring + 1, ring + RING_CELLS, _BUCKET_CELLS):
                if cells[bucket] >= oldest:
                    calls += cells[bucket + _CALLS]
                    failures += cells[bucket + _FAILURES]
                    slow += cells[bucket + _SLOW]
        return WindowTotals(calls, failures, slow)

    def _turn(self, now: float) -> None:
        """Make the bucket of ``now`` the current one, emptied if it still holds an older slot's calls."""
        cells = self._cells
        slot = int(now / self._width)
        bucket = self._mine + 1 + slot % BUCKETS * _BUCKET_CELLS
        if cells[bucket] != slot:
            # Counts first: a worker that adds up in between must not take the old counts for the new slot's.
            cells[bucket + _CALLS] = cells[bucket + _FAILURES] = cells[bucket + _SLOW] = 0
            cells[bucket] = slot
        self.calls = bucket + _CALLS
        self.ends = (slot + 1) * self._width
