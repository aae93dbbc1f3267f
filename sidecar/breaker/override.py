"""An operator's override, kept in a breaker's common cells so that every worker obeys it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.breaker.states import MODES, Mode

if TYPE_CHECKING:
    from sidecar.scoreboard.row import Cells

LONGEST_OVERRIDE: Final = 30 * 24 * 3600.0
"""Seconds."""

LONGEST_REASON: Final = 120
"""Bytes of UTF-8 that are kept of a reason."""

_OBSERVE: Final = MODES.index(Mode.OBSERVE)

_MODE: Final = 0
_UNTIL: Final = 1
_LENGTH: Final = 2
_TEXT: Final = 3
_CELL_BYTES: Final = 7  # of the eight, so that no text makes a cell negative
OVERRIDE_CELLS: Final = _TEXT + -(-LONGEST_REASON // _CELL_BYTES)


class OverrideRecord:
    """The cells that hold an override. All zero is ``auto``: there is none."""

    __slots__ = ("_cells", "_start")

    def __init__(self, cells: Cells, start: int) -> None:
        self._cells = cells
        self._start = start

    @property
    def mode(self) -> Mode:
        """Who decides now; whether the time is up is for the caller to see."""
        return MODES[self._cells[self._start + _MODE]]

    @property
    def is_observing(self) -> bool:
        """Whether nothing is refused; :attr:`mode` is no value to compare on the path of every call."""
        return self._cells[self._start + _MODE] == _OBSERVE

    @property
    def until(self) -> int:
        """When the override ends, in microseconds of the monotonic clock."""
        return self._cells[self._start + _UNTIL]

    @property
    def reason(self) -> str:
        """Why it was made."""
        words = [self._cells[self._start + _TEXT + i] for i in range(OVERRIDE_CELLS - _TEXT)]
        text = b"".join(word.to_bytes(_CELL_BYTES, "big") for word in words)
        return text[: self._cells[self._start + _LENGTH]].decode(errors="ignore")

    def write(self, mode: Mode, until: int, reason: str) -> None:
        """Put an override in force. A reason is cut to :data:`LONGEST_REASON` bytes."""
        text = reason.encode(errors="replace")[:LONGEST_REASON]
        self._cells[self._start + _MODE] = MODES.index(mode)
        self._cells[self._start + _UNTIL] = until
        self._cells[self._start + _LENGTH] = len(text)
        padded = text.ljust((OVERRIDE_CELLS - _TEXT) * _CELL_BYTES, b"\0")
        for i in range(OVERRIDE_CELLS - _TEXT):
            word = padded[i * _CELL_BYTES : (i + 1) * _CELL_BYTES]
            self._cells[self._start + _TEXT + i] = int.from_bytes(word, "big")

    def clear(self) -> None:
        """Back to ``auto``."""
        self.write(Mode.AUTO, 0, "")
