"""One policy's numbers: in this process alone, or shared by all workers of the sidecar.

A row is a line of 64-bit integers::

    | common cells | worker 0's own cells | worker 1's own cells | ...

Two rules make it safe without a lock on the fast path:

* Own cells are written by their worker only. A count over the sidecar is the sum over all workers.
* Common cells are read by anyone at any time and written only while ``row.lock`` is held.

A core that keeps to them works the same on a plain list in one process (:meth:`Row.private`, whose lock does
nothing) and on memory shared by many (:class:`sidecar.scoreboard.shared.Scoreboard`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Cells(Protocol):
    """Integers of 64 bits, signed, by position: a list, or a memoryview of format ``q``."""

    def __getitem__(self, index: int, /) -> int:
        """The cell's number."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Write the cell."""
        ...


class Row:
    """The cells of one policy, and where the parts of them begin.

    Attributes:
        cells: All cells of the row.
        lock: Held for every write to a common cell, for microseconds, never across an await. Not reentrant.
        mine: Position of this worker's first own cell.
        everyone: Positions of each worker's first own cell.
    """

    __slots__ = ("cells", "everyone", "lock", "mine")

    def __init__(
        self, cells: Cells, *, lock: AbstractContextManager[object], mine: int, everyone: tuple[int, ...]
    ) -> None:
        self.cells = cells
        self.lock = lock
        self.mine = mine
        self.everyone = everyone

    @classmethod
    def private(cls, *, common: int, own: int, lock: AbstractContextManager[object] | None = None) -> Row:
        """A row for one process.

        Args:
            common: How many common cells it needs.
            own: How many own cells it needs.
            lock: A lock between threads, where several use it.
        """
        return cls([0] * (common + own), lock=lock or nullcontext(), mine=common, everyone=(common,))

    def total(self, offset: int) -> int:
        """The sum over all workers of the own cell at ``offset``."""
        cells = self.cells
        return sum([cells[start + offset] for start in self.everyone])


class ScoreboardFull(Exception):  # noqa: N818 - says what it is
    """All rows are in use."""


class Rows(Protocol):
    """Where rows come from, and how one worker wakes another."""

    def row(self, name: str, *, common: int, own: int) -> Row:
        """The row called ``name``, with at least so many common and own cells.

        Raises:
            ScoreboardFull: There is no room for one more.
        """
        ...

    def ring(self, worker: int) -> None:
        """Have ``worker`` see whether it is its turn to hand out permits."""
        ...


class PrivateRows:
    """Rows for one process: a new one each time, since whoever wants to keep one keeps it."""

    def row(self, name: str, *, common: int, own: int) -> Row:  # noqa: ARG002 - as the protocol has it
        """A new row, whatever its name."""
        return Row.private(common=common, own=own)

    def ring(self, worker: int) -> None:
        """There is no other worker."""
