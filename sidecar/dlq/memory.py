"""Dead letters in the process's own memory, for development and tests. They do not survive a restart."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.codec import decode, encode
from sidecar.dlq.errors import DeadLetterHeldError, DeadLetterNotFoundError, DeadLetterStoreError
from sidecar.dlq.store import (
    DEFAULT_MAX_AGE,
    Page,
    Position,
    QueueName,
    QueueSummary,
    Selection,
    micros,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.dlq.record import Record

_CAPACITY = 10_000
_LAST_ID = "\U0010ffff"  # after every record id


class _Lease(NamedTuple):
    token: str
    until: float


class _Queue:
    """Values by id, and the order of storing."""

    __slots__ = ("leases", "order", "places", "values")

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.places: dict[str, Position] = {}
        self.order: list[Position] = []
        self.leases: dict[str, _Lease] = {}

    def put(self, place: Position, value: bytes) -> None:
        self.drop(place.record_id)
        self.values[place.record_id] = value
        self.places[place.record_id] = place
        insort(self.order, place)

    def drop(self, record_id: str) -> None:
        self.leases.pop(record_id, None)
        place = self.places.pop(record_id, None)
        if place is not None:
            del self.values[record_id]
            del self.order[bisect_left(self.order, place)]


class MemoryDeadLetterStore:
    """A bounded store.

    Args:
        max_age: Seconds that a record is kept.
        capacity: Records in all queues together; one more is refused, for dropping another would lose it.
        clock: Tells the age of records and the end of leases.

    Attributes:
        max_age: The same.
    """

    def __init__(
        self, *, max_age: float = DEFAULT_MAX_AGE, capacity: int = _CAPACITY, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.max_age = max_age
        self._capacity = capacity
        self._clock = clock
        self._queues: dict[QueueName, _Queue] = {}

    def __repr__(self) -> str:
        return f"<MemoryDeadLetterStore {sum(len(queue.order) for queue in self._queues.values())} records>"

    async def add(self, queue: QueueName, record: Record) -> None:
        """Store a record, or replace the one with the same id."""
        held = self._queues.setdefault(queue, _Queue())
        self._expire(held)
        depth = sum(len(other.order) for other in self._queues.values())
        if depth >= self._capacity and record.id not in held.values:
            raise DeadLetterStoreError(f"the memory store is full: it takes {self._capacity} dead letters")
        held.put(Position.of(record), encode(record))

    async def get(self, queue: QueueName, record_id: str) -> Record:
        """One record."""
        held = self._queue_of(queue, record_id)
        return self._read(held, queue, record_id)

    async def page(
        self, queue: QueueName, selection: Selection, *, limit: int, after: Position | None = None
    ) -> Page:
        """At most ``limit`` records after a place."""
        held = self._queues.get(queue)
        if held is None:
            return Page((), None)
        items = tuple(islice(self._chosen(queue, held, selection, after), limit + 1))
        more = len(items) > limit
        return Page(items[:limit], held.places[items[limit - 1].id] if more else None)

    async def lease(self, queue: QueueName, record_id: str, token: str, seconds: float) -> Record:
        """Hold a record for a retry."""
        held = self._queue_of(queue, record_id)
        self._check_lease(held, record_id, token)
        record = decode(held.values[record_id], record_id=record_id, event_type=queue.event_type)
        held.leases[record_id] = _Lease(token, self._clock.monotonic() + seconds)
        return record

    async def keep(self, queue: QueueName, record: Record, token: str) -> None:
        """End a lease and write the record."""
        held = self._queue_of(queue, record.id)
        self._check_lease(held, record.id, token)
        held.leases.pop(record.id, None)
        held.values[record.id] = encode(record)

    async def replace(self, queue: QueueName, record: Record) -> None:
        """Write a changed record."""
        held = self._queue_of(queue, record.id)
        self._check_lease(held, record.id, "")
        held.values[record.id] = encode(record)

    async def remove(self, queue: QueueName, record: Record, token: str = "") -> None:
        """Remove a record."""
        held = self._queue_of(queue, record.id)
        self._check_lease(held, record.id, token)
        held.drop(record.id)

    async def count(self, queue: QueueName, selection: Selection) -> int:
        """How many records a selection has."""
        held = self._queues.get(queue)
        return 0 if held is None else sum(1 for _ in self._chosen(queue, held, selection, None))

    async def names(self) -> list[QueueName]:
        """Queues that have records."""
        return [summary.name for summary in await self.queues()]

    async def queues(self) -> list[QueueSummary]:
        """Every queue that is not empty."""
        for held in self._queues.values():
            self._expire(held)
        return [
            QueueSummary(name, len(held.order), held.order[0].micros / 1e6)
            for name, held in sorted(self._queues.items())
            if held.order
        ]

    async def close(self) -> None:
        """Nothing to give back."""

    def _queue_of(self, queue: QueueName, record_id: str) -> _Queue:
        held = self._queues.get(queue)
        if held is not None:
            self._expire(held)
            if record_id in held.values:
                return held
        raise DeadLetterNotFoundError(f"no dead letter {record_id} in {queue}")

    def _chosen(
        self, queue: QueueName, held: _Queue, selection: Selection, after: Position | None
    ) -> Iterator[Record]:
        self._expire(held)
        for place in _places(held.order, selection, after):
            record = self._read(held, queue, place.record_id)
            if selection.correlation_id in (None, record.correlation_id):
                yield record

    def _read(self, held: _Queue, queue: QueueName, record_id: str) -> Record:
        record = decode(held.values[record_id], record_id=record_id, event_type=queue.event_type)
        return replace(record, status="retrying") if self._leased(held, record_id) else record

    def _leased(self, held: _Queue, record_id: str) -> bool:
        lease = held.leases.get(record_id)
        return lease is not None and self._clock.monotonic() < lease.until

    def _check_lease(self, held: _Queue, record_id: str, token: str) -> None:
        if self._leased(held, record_id) and held.leases[record_id].token != token:
            raise DeadLetterHeldError(f"dead letter {record_id} is being retried at this moment")

    def _expire(self, held: _Queue) -> None:
        oldest = micros(self._clock.wall() - self.max_age)
        while held.order and held.order[0].micros < oldest:
            held.drop(held.order[0].record_id)


def _places(order: list[Position], selection: Selection, after: Position | None) -> Iterator[Position]:
    """The places that lie in the selection's time and after a place, in its order."""
    start = 0 if selection.since is None else bisect_left(order, Position(micros(selection.since), ""))
    end = len(order)
    if selection.until is not None:
        end = bisect_right(order, Position(micros(selection.until), _LAST_ID))
    if selection.oldest_first:
        start = start if after is None else max(start, bisect_right(order, after))
        return iter(order[start:end])
    end = end if after is None else min(end, bisect_left(order, after))
    return reversed(order[start:end])
