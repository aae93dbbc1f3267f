"""What a store of dead letters can do. Each method is one intention and one atomic step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sidecar.dlq.record import Record

DEFAULT_MAX_AGE = 30 * 86400.0
"""Seconds that a record is kept."""

DEFAULT_LEASE = 60.0
"""Seconds that a retry holds a record without renewing its lease."""


class QueueName(NamedTuple):
    """One queue of dead letters.

    Attributes:
        service: The service whose dead letters these are.
        event_type: Their event type.
    """

    service: str
    event_type: str

    def __str__(self) -> str:
        return f"{self.service}:{self.event_type}"


class QueueSummary(NamedTuple):
    """A queue at one moment.

    Attributes:
        name: Which one.
        depth: Its number of records.
        oldest_at: When the oldest was stored, in seconds since the Unix epoch.
    """

    name: QueueName
    depth: int
    oldest_at: float


class Position(NamedTuple):
    """A place between two records, in the order of storing."""

    micros: int
    record_id: str

    def __str__(self) -> str:
        return f"{self.micros}.{self.record_id}"

    @classmethod
    def of(cls, record: Record) -> Position:
        """The place of ``record``."""
        return cls(micros(record.stored_at), record.id)

    @classmethod
    def parse(cls, cursor: str) -> Position:
        """Read a cursor.

        Raises:
            ValueError: It was not given out here.
        """
        moment, dot, record_id = cursor.partition(".")
        if not (dot and record_id and moment.isascii() and moment.isdigit() and len(moment) <= 16):  # noqa: PLR2004
            raise ValueError(f"{cursor[:80]!r} is no cursor: take it from the page before, as it is")
        return cls(int(moment), record_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records of a queue, and in which order.

    Attributes:
        correlation_id: Only those with this correlation id.
        since: Only those stored at this time or later, in seconds since the Unix epoch.
        until: Only those stored at this time or earlier.
        oldest_first: The order; newest first otherwise.
    """

    correlation_id: str | None = None
    since: float | None = None
    until: float | None = None
    oldest_first: bool = False


class Page(NamedTuple):
    """A part of a listing.

    Attributes:
        items: Records. May be few, or none, although more follow.
        next: Where the next page begins, or ``None`` after the last.
    """

    items: tuple[Record, ...]
    next: Position | None


class DeadLetterStore(Protocol):
    """A store of dead letters.

    Every method raises ``DeadLetterStoreError`` where the store cannot be used. Those that name a record
    raise ``DeadLetterNotFoundError`` where it is not there, and those that change one ``DeadLetterHeldError``
    where another retry holds it (:mod:`sidecar.dlq.errors`). Leases are judged by the store's own clock.
    Records past their age are in no page and no count.

    Attributes:
        max_age: Seconds that a record is kept; may be changed at any time.
    """

    max_age: float

    async def add(self, queue: QueueName, record: Record) -> None:
        """Store a record; one with the same id is replaced, so that adding twice is adding once."""
        ...

    async def get(self, queue: QueueName, record_id: str) -> Record:
        """One record."""
        ...

    async def page(
        self, queue: QueueName, selection: Selection, *, limit: int, after: Position | None = None
    ) -> Page:
        """At most ``limit`` records after a place."""
        ...

    async def lease(self, queue: QueueName, record_id: str, token: str, seconds: float) -> Record:
        """Hold a record for a retry; with the same token again it is held anew for ``seconds``."""
        ...

    async def keep(self, queue: QueueName, record: Record, token: str) -> None:
        """End the lease of ``token`` and write the record: the retry has failed."""
        ...

    async def replace(self, queue: QueueName, record: Record) -> None:
        """Write a changed record in place of the one with the same id."""
        ...

    async def remove(self, queue: QueueName, record: Record, token: str = "") -> None:
        """Remove a record, with the lease's token if there is one."""
        ...

    async def count(self, queue: QueueName, selection: Selection) -> int:
        """How many records a selection has, about: an upper bound while others remove some."""
        ...

    async def names(self) -> list[QueueName]:
        """Queues that may have records, of all services, in order."""
        ...

    async def queues(self) -> list[QueueSummary]:
        """Every queue that is not empty, of all services."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


def micros(seconds: float) -> int:
    """Whole microseconds of a time."""
    return round(seconds * 1_000_000)
