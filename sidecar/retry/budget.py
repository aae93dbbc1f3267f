"""How many retries may be under way, so that retrying cannot multiply an overload.

The rule is Envoy's retry budget: retries may make up a share of the active requests. As a retry takes at
least as long as a first attempt, an upstream that fails everything sees at most ``1 / (1 - share)`` times
the load: 1.25 for 20 %. A few retries are always allowed, or a quiet upstream would get none.
"""

from __future__ import annotations

from typing import Final

from sidecar.scoreboard.row import Row

COMMON_CELLS: Final = 1  # a row has at least one; the budget writes none

# Own cells.
_ACTIVE: Final = 0
_RETRIES: Final = 1
OWN_CELLS: Final = 2


class RetryBudget:
    """The retries of one upstream, counted over all workers. Not safe for threads.

    Args:
        share: Retries per active request, 0 to 1.
        minimum: Retries that are always allowed, not negative.
        row: Where the numbers are kept; a private one by default.

    Raises:
        ValueError: A value is out of its range.
    """

    __slots__ = ("_cells", "_mine", "_minimum", "row", "share")

    def __init__(self, share: float = 0.2, minimum: int = 3, *, row: Row | None = None) -> None:
        if not 0 <= share <= 1 or minimum < 0:
            raise ValueError(f"expected a share from 0 to 1 and a minimum from 0, got {share} and {minimum}")
        self.row = row = row or Row.private(common=COMMON_CELLS, own=OWN_CELLS)
        self._cells = row.cells
        self._mine = row.mine
        self.share = share
        self._minimum = minimum

    def __repr__(self) -> str:
        return f"<RetryBudget {self.retries}/{self.allowed} retries, {self.active} active>"

    def request_started(self) -> None:
        """A request is active from here to :meth:`request_ended`, its pauses and retries included."""
        self._cells[self._mine] += 1

    def request_ended(self) -> None:
        """An active request has ended."""
        self._cells[self._mine] -= 1

    def try_retry(self) -> bool:
        """Begin a retry, its pause included, if the budget allows one more."""
        with self.row.lock:
            if self.retries >= self.allowed:
                return False
            self._cells[self._mine + _RETRIES] += 1
            return True

    def retry_ended(self) -> None:
        """A retry has ended, for better or worse, or will not be made after all."""
        self._cells[self._mine + _RETRIES] -= 1

    # Figures, over all workers.

    @property
    def active(self) -> int:
        """Requests under way."""
        return self.row.total(_ACTIVE)

    @property
    def own_active(self) -> int:
        """Requests under way in this process."""
        return self._cells[self._mine + _ACTIVE]

    @property
    def retries(self) -> int:
        """Retries under way."""
        return self.row.total(_RETRIES)

    @property
    def allowed(self) -> int:
        """Retries that may be under way now."""
        return max(self._minimum, int(self.share * self.active))
