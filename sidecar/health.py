"""Active health checks: when a host counts as well, whatever its traffic shows.

The checks themselves are made elsewhere; this is what their results add up to. A breaker judges a host by
the calls it gets, a health check finds a broken host before any call does, and finds a host well that gets
none.
"""

from __future__ import annotations

from typing import Final

from sidecar.scoreboard.row import Row

UNHEALTHY_AFTER: Final = 3
"""Failed checks in a row that take a host out."""

HEALTHY_AFTER: Final = 2
"""Passed checks in a row that bring it back."""


# Common cells.
_UNHEALTHY: Final = 0
_IN_A_ROW: Final = 1  # checks in a row that contradict the verdict
COMMON_CELLS: Final = 2


class Health:
    """What the checks say of one host. It begins healthy: without evidence nobody is taken out.

    Args:
        row: Where the numbers are kept; a private one by default.
    """

    __slots__ = ("_cells", "row")

    def __init__(self, row: Row | None = None) -> None:
        self.row = row = row or Row.private(common=COMMON_CELLS, own=0)
        self._cells = row.cells

    def __repr__(self) -> str:
        return f"<Health {'good' if self.healthy else 'bad'}>"

    @property
    def healthy(self) -> bool:
        """The verdict."""
        return not self._cells[_UNHEALTHY]

    def record(self, *, passed: bool) -> bool:
        """Take in the result of a check; whether the verdict has changed."""
        cells = self._cells
        with self.row.lock:
            healthy = self.healthy
            if passed == healthy:
                cells[_IN_A_ROW] = 0
                return False
            cells[_IN_A_ROW] += 1
            if cells[_IN_A_ROW] < (UNHEALTHY_AFTER if healthy else HEALTHY_AFTER):
                return False
            cells[_UNHEALTHY] = not passed
            cells[_IN_A_ROW] = 0
            return True
