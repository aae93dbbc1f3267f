"""Recomputes the hash chain, and names the first row that is not as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.audit.chain import row_hash
from sidecar.audit.reading import Mark, open_trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_REPORT_EVERY: Final = 10_000


@dataclass(slots=True, frozen=True)
class Verified:
    """What a verification found.

    Attributes:
        rows: Number of rows that are as they were written.
        head: The last of them.
        fault: What is wrong with the first row that is not, or nothing.
    """

    rows: int
    head: Mark
    fault: str = ""


class ChainCheck:
    """Follows the chain row by row; knows nothing but the row before.

    Args:
        base: The row before the first one.
        anchors: Rows whose hashes somebody wrote down elsewhere: they must still be there, unchanged.
    """

    __slots__ = ("_anchors", "last", "rows")

    def __init__(self, base: Mark, anchors: Iterable[Mark] = ()) -> None:
        self._anchors = {anchor.seq: anchor.hash for anchor in anchors}
        self.last = base
        self.rows = 0

    def begin(self) -> str:
        """Check where the chain begins; what is wrong with that, or nothing."""
        base = self.last
        retired = [seq for seq in self._anchors if seq < base.seq]
        if retired:
            return f"row {min(retired)} cannot be compared: it was retired, as all before {base.seq + 1}"
        if self._anchors.pop(base.seq, base.hash) != base.hash:
            return (
                f"row {base.seq}, the last one retired, was replaced: its hash is not the one that was noted"
            )
        return ""

    def follow(self, record: Sequence[str | None]) -> str:
        """Check the next row; what is wrong with it, or nothing.

        Args:
            record: The twelve hashed fields (see :mod:`sidecar.audit.chain`), then the row's hash.
        """
        last = self.last
        name = f"row {record[0]} (id {record[2]})"
        seq = int(record[0] or 0)
        stored = record[12] or ""
        if seq <= last.seq:
            return f"{name} stands twice"
        if seq > last.seq + 1:
            return f"{_missing(last.seq + 1, seq - 1)}: after row {last.seq} comes {name}"
        if record[1] != last.hash:
            return f"{name} is out of order: it was not written after the row that stands before it"
        if row_hash(record[:12]) != stored:
            return f"{name} was changed: its contents do not give its hash"
        if self._anchors and self._anchors.pop(seq, stored) != stored:
            return f"{name} was replaced: its hash is not the one that was noted"
        self.last = Mark(seq, stored)
        self.rows += 1
        return ""

    def end(self, head: Mark) -> str:
        """Check that the chain ends where the database says; what is wrong, or nothing."""
        last = self.last
        if last.seq < head.seq:
            return f"{_missing(last.seq + 1, head.seq)}: the trail ends with row {last.seq}"
        if last != head:
            return f"row {last.seq} is the last one, but the database recorded {head} as such"
        if self._anchors:
            seq = min(self._anchors)
            return f"row {seq} is missing: it was noted, and the trail ends with row {last.seq}"
        return ""


async def verify(
    url: str,
    *,
    anchors: Iterable[Mark] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verified:
    """Check the whole trail as of this moment, in constant memory.

    Args:
        url: ``postgresql://…`` of a role that may read the trail.
        anchors: Rows that were noted elsewhere.
        progress: Told how many rows are done, of how many.

    Raises:
        ReadError: The trail cannot be read.
    """
    async with open_trail(url) as trail:
        check = ChainCheck(trail.base, anchors)
        total = trail.head.seq - trail.base.seq
        fault = check.begin()
        if not fault:
            async for record in trail.rows():
                fault = check.follow(record)
                if fault:
                    break
                if check.rows % _REPORT_EVERY == 0:
                    progress(check.rows, total)
        return Verified(check.rows, check.last, fault or check.end(trail.head))


def _missing(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"
