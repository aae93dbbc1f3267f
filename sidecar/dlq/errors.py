"""What can go wrong with dead letters.

::

    DeadLetterError
    ├── DeadLetterNotFoundError ──── there is no such record
    ├── DeadLetterHeldError ──────── somebody is retrying it at this moment
    ├── DeadLetterUnreadableError ── written by a newer version, or no record at all: it can only be removed
    ├── RedeliveryError ──────────── it was sent again and failed again
    └── DeadLetterStoreError ─────── the store cannot be used now; nothing was written
"""

from __future__ import annotations


class DeadLetterError(Exception):
    """Something about dead letters that the caller has to know."""


class DeadLetterNotFoundError(DeadLetterError, LookupError):
    """There is no such record: removed, delivered, or past its age."""


class DeadLetterHeldError(DeadLetterError):
    """Another retry holds the record's lease. Try again when it has ended."""


class DeadLetterUnreadableError(DeadLetterError):
    """The stored value is not a record of this version; its retry and its change are refused."""


class RedeliveryError(DeadLetterError):
    """The record was sent again and failed again.

    Attributes:
        message: What happened.
        status: The upstream's answer, or ``None`` where there was none.
        upstream_down: Whether the next record would meet the same fate, as behind an open breaker: a retry of
            many ends here.
    """

    def __init__(self, message: str, *, status: int | None = None, upstream_down: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.upstream_down = upstream_down


class DeadLetterStoreError(DeadLetterError):
    """The store refuses, is out of memory, read-only, silent, or full."""
