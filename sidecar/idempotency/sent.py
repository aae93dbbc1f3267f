"""Keys that this sidecar has sent, remembered apart from the store.

A store that is flushed, or that fails over to a replica which had not heard of a claim yet, forgets. This
memory does not, so a lost record cannot lead to a second execution through the same sidecar.
"""

from __future__ import annotations

import mmap

_PLACES = 8  # ids in a row
_ROW = 2 * _PLACES  # cells: the ids' tags, then their expiries
_CELL = 8  # bytes
_FREE = 0
_TAG_DIGITS = 15  # hexadecimal digits that fit a signed 64-bit cell
_MILLISECONDS = 1000


class SentKeys:
    """A bounded set of record ids that expire.

    A table of fixed size, like a processor's cache: an id belongs to one row of eight places, and where the
    row is full the id that expires first gives way. 16 bytes an id. A lookup takes one id for another with
    a chance of about 2⁻⁴² where the row is full, and then errs on the side of a refusal.

    Memory is mapped, not allocated: a table made before ``fork`` is shared by all workers, and pages that
    were never used cost nothing. A cell is written whole; what two workers can lose to each other in a race
    is one id.

    Args:
        capacity: How many ids fit at most; a multiple of 8.
    """

    __slots__ = ("_cells", "_rows")

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._rows = capacity // _PLACES
        self._cells = memoryview(mmap.mmap(-1, self._rows * _ROW * _CELL)).cast("q")

    def add(self, record_id: str, expires_at: float) -> None:
        """Remember ``record_id`` until ``expires_at``, seconds of the monotonic clock."""
        tag, start = self._place(record_id)
        tags = self._cells[start : start + _PLACES].tolist()
        if tag in tags:
            place = tags.index(tag)
        elif _FREE in tags:
            place = tags.index(_FREE)
        else:
            expiries = self._cells[start + _PLACES : start + _ROW].tolist()
            place = expiries.index(min(expiries))
        self._cells[start + _PLACES + place] = int(expires_at * _MILLISECONDS)
        self._cells[start + place] = tag

    def holds(self, record_id: str, now: float) -> bool:
        """Whether ``record_id`` is remembered at ``now``."""
        tag, start = self._place(record_id)
        tags = self._cells[start : start + _PLACES].tolist()
        return tag in tags and now * _MILLISECONDS < self._cells[start + _PLACES + tags.index(tag)]

    def forget(self, record_id: str) -> None:
        """The key is free again."""
        tag, start = self._place(record_id)
        tags = self._cells[start : start + _PLACES].tolist()
        if tag in tags:
            self._cells[start + _PLACES + tags.index(tag)] = 0

    def _place(self, record_id: str) -> tuple[int, int]:
        """The id's tag, and the first cell of its row. Ids are hashes, so any of their digits are as good."""
        tag = int(record_id[:_TAG_DIGITS], 16)
        return tag, tag % self._rows * _ROW
