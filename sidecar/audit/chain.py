"""The hash chain of the audit trail, as ``sql/request-changes-audit.sql`` defines it.

A row's hash is the SHA-256 of its canonical form::

    request_changes/1,<seq><prev_hash><id><request_id><change_type><previous_value><new_value>
                      <changed_by_id><changed_by_type><correlation_id><created_at><outcome>

Each field is its length in characters, a colon, its text and a comma, or ``-,`` for NULL: whatever the
values contain, two different rows never look the same. Hashes are in lower-case hexadecimal, ids as
PostgreSQL prints them, JSON as ``jsonb`` prints it, and ``created_at`` is in microseconds since the Unix
epoch. ``prev_hash`` is the hash of the row before; the first row has :data:`GENESIS`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GENESIS = "0" * 64
"""What the first row of a chain has as the hash of the row before it."""


def canonical_form(fields: Sequence[str | None]) -> bytes:
    """The bytes that are hashed: ``fields`` are the texts of the twelve columns, in the order above."""
    parts = ["-," if text is None else f"{len(text)}:{text}," for text in fields]
    return ("request_changes/1," + "".join(parts)).encode()


def row_hash(fields: Sequence[str | None]) -> str:
    """The hash of a row, in hexadecimal."""
    return hashlib.sha256(canonical_form(fields)).hexdigest()


@dataclass(slots=True, frozen=True)
class Mark:
    """A row of the chain: its number and its hash in hexadecimal."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


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
        if base.seq == 0 and base.hash != GENESIS:
            return "the trail does not begin as a trail does: the record of the chain's ends was changed"
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
            record: The twelve hashed fields, then the row's hash.
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


def _missing(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"
