"""What is read from a spool, and what can go wrong with one.

::

    SpoolError
    ├── SpoolFull ───────── the queue's bound is reached, or the disk is full
    └── SpoolUnavailable ── closed, unreadable, unwritable, or locked for too long
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FILE_NAME: Final = "spool.db"
"""The file in the spool's directory."""


class SpoolError(Exception):
    """The spool did not do what it was asked to; nothing of it was stored."""


class SpoolFull(SpoolError):  # noqa: N818 - the state of the disk, named as people say it
    """There is no room: free some by delivering what waits, or give the queue or the disk more."""


class SpoolUnavailable(SpoolError):  # noqa: N818 - the state of the file, named as people say it
    """The file cannot be used now; the message carries SQLite's own words."""


@dataclass(slots=True, frozen=True)
class Item:
    """One payload in a queue.

    Attributes:
        id: Place in the order of appending, over all queues of the file; ids grow and are never used twice.
        created_at: When it was appended, in seconds since the Unix epoch.
        payload: The bytes as they were given.
    """

    id: int
    created_at: float
    payload: bytes


@dataclass(slots=True, frozen=True)
class QueueStats:
    """How full a queue is.

    Attributes:
        depth: Number of items.
        bytes: Sum of the lengths of their payloads.
        oldest_at: When the first item was appended, in seconds since the Unix epoch; ``None`` if it is empty.
    """

    depth: int = 0
    bytes: int = 0
    oldest_at: float | None = None


EMPTY = QueueStats()
