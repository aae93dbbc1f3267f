"""The calls that a half-open breaker lets through to see whether its upstream is well again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.breaker.layout import PROBED_WORD, PROBES, PROBES_OK

if TYPE_CHECKING:
    from sidecar.scoreboard.row import Row


class Probes:
    """Counts the probes in flight, over all workers.

    No more run at once than successes are still needed: further ones could not change the verdict. Each
    worker counts its own, so that those of a worker that crashed disappear with its cells. Every method but
    :meth:`in_flight` needs the row's lock.
    """

    __slots__ = ("_needed", "_row")

    def __init__(self, row: Row, needed: int) -> None:
        self._row = row
        self._needed = needed

    def take(self, word: int) -> bool:
        """Begin a probe of the half-open period ``word``, if one more is allowed."""
        cells, mine = self._row.cells, self._row.mine
        if cells[PROBES_OK] + self.in_flight(word) >= self._needed:
            return False
        if cells[mine + PROBED_WORD] != word:
            cells[mine + PROBES] = 0
            cells[mine + PROBED_WORD] = word
        cells[mine + PROBES] += 1
        return True

    def give_back(self) -> None:
        """End a probe of the half-open period that the breaker is in."""
        cells, mine = self._row.cells, self._row.mine
        if cells[mine + PROBES] > 0:
            cells[mine + PROBES] -= 1

    def in_flight(self, word: int) -> int:
        """How many probes of the half-open period ``word`` have not ended."""
        cells = self._row.cells
        return sum(
            [cells[own + PROBES] for own in self._row.everyone if cells[own + PROBED_WORD] == word],
        )
