"""Recomputes the hash chain, and names the first row that is not as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.audit.chain import ChainCheck
from sidecar.audit.reading import open_trail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.audit.chain import Mark

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
            async for record in trail.rows("WHERE request_changes.seq > $1", trail.base.seq):
                fault = check.follow(record)
                if fault:
                    break
                if check.rows % _REPORT_EVERY == 0:
                    progress(check.rows, total)
        return Verified(check.rows, check.last, fault or check.end(trail.head))
