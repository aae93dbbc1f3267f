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
from collections.abc import Sequence

GENESIS = "0" * 64
"""What the first row of a chain has as the hash of the row before it."""

Fields = Sequence[str | None]
"""Texts of the twelve hashed columns, in the order above."""


def canonical_form(fields: Fields) -> bytes:
    """The bytes that are hashed."""
    parts = ["-," if text is None else f"{len(text)}:{text}," for text in fields]
    return ("request_changes/1," + "".join(parts)).encode()


def row_hash(fields: Fields) -> str:
    """The hash of a row, in hexadecimal."""
    return hashlib.sha256(canonical_form(fields)).hexdigest()
