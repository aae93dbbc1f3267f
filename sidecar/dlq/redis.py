"""Dead letters in Redis or Valkey, in the layout that people's ``redis-cli`` lines know.

========================================== ====== =====================================================
key                                        type   holds
========================================== ====== =====================================================
``dlq:<service>:<TYPE>``                   hash   record id → JSON
``dlq:index``                              set    ``<service>:<TYPE>`` of every queue that is not empty
``dlq-time:{dlq:<service>:<TYPE>}``        zset   record id → microseconds of storing
``dlq-lease:{dlq:<service>:<TYPE>}``       hash   record id → end and token of a retry's lease
``dlq-correlation:{…}:<correlation id>``   zset   record id → microseconds of storing
========================================== ====== =====================================================

The hash is the truth, the rest can be made from it: a page, and the removal of what is too old, read only
what they return. The braces put all keys of one queue into one slot of a cluster. None of them begins with
``dlq:``, so that ``KEYS "dlq:*"`` finds the queues and the index alone.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.codec import decode, encode
from sidecar.dlq.errors import DeadLetterHeldError, DeadLetterNotFoundError, DeadLetterStoreError
from sidecar.dlq.script import Script
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

    from sidecar.dlq.connect import RedisClient
    from sidecar.dlq.record import Record

_LUA: Final = Path(__file__).with_name("lua")
_EXPIRED_AT_ONCE: Final = 100  # so that no call is slow because many have expired
_PAGE_BYTES: Final = 8 * 1024 * 1024
_REPAIR_BATCH: Final = 500
_REPAIR_PAUSE: Final = 60.0

_logger = logging.getLogger(__name__)


class _Keys:
    """The keys of one queue."""

    __slots__ = ("_tag", "leases", "records", "time")

    def __init__(self, root: str, queue: QueueName) -> None:
        self.records = f"{root}:{queue}"
        self._tag = f"{{{self.records}}}"
        self.time = f"{root}-time:{self._tag}"
        self.leases = f"{root}-lease:{self._tag}"
        self._tag = f"{root}-correlation:{self._tag}"

    def correlation(self, correlation_id: str) -> str:
        """The order of those with one correlation id."""
        return f"{self._tag}:{correlation_id}"


class RedisDeadLetterStore:
    """A store for several sidecars and for the library.

    Args:
        client: A connected or unconnected client; the store closes it.
        root: First part of every key.
        max_age: Seconds that a record is kept.
        clock: Tells the age of records. Leases go by the server's clock.

    Attributes:
        max_age: The same.
    """

    def __init__(
        self,
        client: RedisClient,
        *,
        root: str = "dlq",
        max_age: float = DEFAULT_MAX_AGE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._root = root
        self._index = f"{root}:index"
        self.max_age = max_age
        self._clock = clock
        self._repaired: dict[QueueName, float] = {}
        names = ("add", "expire", "get", "lease", "page", "summary", "write")
        self._scripts = {name: Script(_LUA / f"{name}.lua") for name in names}

    def __repr__(self) -> str:
        return f"<RedisDeadLetterStore {self._root}>"

    async def add(self, queue: QueueName, record: Record) -> None:
        """Store a record, or replace the one with the same id."""
        keys = self._keys(queue)
        places = [keys.records, keys.time, keys.correlation(record.correlation_id)]
        place = micros(record.stored_at)
        with _store_errors():
            # The index first: a queue that it names in vain is harmless, one that it leaves out is not seen.
            await self._client.sadd(self._index, str(queue))
            await self._run("add", places, record.id, encode(record), place, int(self.max_age * 1000))
            await self._expire(keys)

    async def get(self, queue: QueueName, record_id: str) -> Record:
        """One record."""
        keys = self._keys(queue)
        with _store_errors():
            answer = await self._run("get", [keys.records, keys.leases, keys.time], record_id, self._oldest())
        if not answer:
            raise _not_found(queue, record_id)
        value, held = answer
        return _shown(decode(value, record_id=record_id, event_type=queue.event_type), held=held)

    async def page(
        self, queue: QueueName, selection: Selection, *, limit: int, after: Position | None = None
    ) -> Page:
        """At most ``limit`` records, and at most 8 MiB, after a place."""
        keys = self._keys(queue)
        with _store_errors():
            await self._tidy(queue, keys)
            more, *rows = await self._run(
                "page",
                [keys.records, self._order(keys, selection), keys.leases],
                "oldest" if selection.oldest_first else "newest",
                *self._bounds(selection),
                *(("", "") if after is None else after),
                limit,
                _PAGE_BYTES,
            )
        items: list[Record] = []
        stale: list[str] = []
        position = None
        for raw_id, place, value, held in zip(*[iter(rows)] * 4, strict=True):
            position = Position(int(place), raw_id.decode())
            if not value:  # the place outlived its record
                stale.append(position.record_id)
                continue
            record = decode(value, record_id=position.record_id, event_type=queue.event_type)
            items.append(_shown(record, held=held, place=position.micros))
        if stale:
            with _store_errors():
                await self._client.zrem(self._order(keys, selection), *stale)
        return Page(tuple(items), position if more else None)

    async def lease(self, queue: QueueName, record_id: str, token: str, seconds: float) -> Record:
        """Hold a record for a retry."""
        keys = self._keys(queue)
        with _store_errors():
            outcome, *value = await self._run(
                "lease", [keys.records, keys.leases], record_id, token, int(seconds * 1000)
            )
        _check(outcome, queue, record_id)
        return decode(value[0], record_id=record_id, event_type=queue.event_type)

    async def keep(self, queue: QueueName, record: Record, token: str) -> None:
        """End a lease and write the record."""
        await self._write(queue, record, token, encode(record))

    async def replace(self, queue: QueueName, record: Record) -> None:
        """Write a changed record."""
        await self._write(queue, record, "", encode(record))

    async def remove(self, queue: QueueName, record: Record, token: str = "") -> None:
        """Remove a record."""
        await self._write(queue, record, token, b"")
        with _store_errors():
            await self._forget_if_empty(queue)

    async def count(self, queue: QueueName, selection: Selection) -> int:
        """How many records there are, about: some may be removed by now."""
        low, high = self._bounds(selection)
        with _store_errors():
            number: int = await self._client.zcount(self._order(self._keys(queue), selection), low, high)
        return number

    async def names(self) -> list[QueueName]:
        """Every queue that the index names."""
        with _store_errors():
            members = await self._client.smembers(self._index)
        names = [member.decode().rpartition(":") for member in members]
        return sorted(QueueName(service, event_type) for service, _, event_type in names)

    async def queues(self) -> list[QueueSummary]:
        """Every queue that is not empty."""
        summaries = []
        for name in await self.names():
            try:
                with _store_errors():
                    summary = await self._summary(name)
            except DeadLetterStoreError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                # One key that is somebody else's must not hide the other queues.
                _logger.warning("the key of dead letters in %s holds something else: %s", name, error)
                continue
            if summary is not None:
                summaries.append(summary)
        return summaries

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _keys(self, queue: QueueName) -> _Keys:
        return _Keys(self._root, queue)

    def _order(self, keys: _Keys, selection: Selection) -> str:
        return keys.time if selection.correlation_id is None else keys.correlation(selection.correlation_id)

    def _bounds(self, selection: Selection) -> tuple[int, int | str]:
        low = max(self._oldest(), micros(selection.since or 0))
        return low, "+inf" if selection.until is None else micros(selection.until)

    def _oldest(self) -> int:
        return micros(self._clock.wall() - self.max_age)

    async def _run(self, name: str, keys: list[str], *arguments: str | bytes | int) -> list[bytes]:
        answer: list[bytes] = await self._scripts[name].run(self._client, keys, *arguments)
        return answer

    async def _write(self, queue: QueueName, record: Record, token: str, value: bytes) -> None:
        keys = self._keys(queue)
        places = [keys.records, keys.leases, keys.time, keys.correlation(record.correlation_id)]
        with _store_errors():
            outcome = await self._scripts["write"].run(self._client, places, record.id, token, value)
        _check(outcome, queue, record.id)

    async def _expire(self, keys: _Keys) -> None:
        places = [keys.records, keys.time, keys.leases]
        await self._scripts["expire"].run(self._client, places, self._oldest(), _EXPIRED_AT_ONCE)

    async def _tidy(self, queue: QueueName, keys: _Keys) -> list[bytes]:
        """Clear away what is too old and mend the order where it does not match the records."""
        await self._expire(keys)
        summary = await self._run("summary", [keys.records, keys.time], self._oldest())
        if summary[0] != summary[1] and self._may_repair(queue):
            await self._repair(queue, keys)
            summary = await self._run("summary", [keys.records, keys.time], self._oldest())
        return summary

    async def _summary(self, queue: QueueName) -> QueueSummary | None:
        records, _places, expired, oldest = await self._tidy(queue, self._keys(queue))
        depth = int(records) - int(expired)
        if depth > 0:
            return QueueSummary(queue, depth, int(oldest or self._oldest()) / 1e6)
        await self._forget_if_empty(queue)
        return None

    async def _forget_if_empty(self, queue: QueueName) -> None:
        """Take an empty queue out of the index, and put it back if it was filled in between.

        In a cluster the index and the queue cannot be looked at in one step.
        """
        records = self._keys(queue).records
        if await self._client.exists(records):
            return
        await self._client.srem(self._index, str(queue))
        if await self._client.exists(records):
            await self._client.sadd(self._index, str(queue))

    def _may_repair(self, queue: QueueName) -> bool:
        """Whether the last repair is long enough ago: foreign writers must not make every call a scan."""
        now = self._clock.monotonic()
        if now - self._repaired.get(queue, -_REPAIR_PAUSE) < _REPAIR_PAUSE:
            return False
        self._repaired[queue] = now
        return True

    async def _repair(self, queue: QueueName, keys: _Keys) -> None:
        """Give every record its place, as after an eviction, or for records that others have written."""
        _logger.warning("the order of dead letters in %s does not match its records: mending it", queue)
        cursor = 0
        while True:
            cursor, values = await self._client.hscan(keys.records, cursor, count=_REPAIR_BATCH)
            if values:
                await self._client.zadd(keys.time, self._places(queue, values), nx=True)
            if cursor == 0:
                break
        async for record_id, _place in self._client.zscan_iter(keys.time, count=_REPAIR_BATCH):
            if not await self._client.hexists(keys.records, record_id):
                await self._client.zrem(keys.time, record_id)

    def _places(self, queue: QueueName, values: dict[bytes, bytes]) -> dict[bytes, int]:
        now = micros(self._clock.wall())
        places = {}
        for record_id, value in values.items():
            record = decode(value, record_id=record_id.decode(), event_type=queue.event_type)
            places[record_id] = now if record.status == "unreadable" else micros(record.stored_at)
        return places


def _shown(record: Record, *, held: int | bytes, place: int | None = None) -> Record:
    if record.status == "unreadable":
        return record if place is None else replace(record, stored_at=place / 1e6)
    return replace(record, status="retrying") if held else record


def _check(outcome: bytes, queue: QueueName, record_id: str) -> None:
    if outcome == b"gone":
        raise _not_found(queue, record_id)
    if outcome == b"held":
        raise DeadLetterHeldError(f"dead letter {record_id} is being retried at this moment")


def _not_found(queue: QueueName, record_id: str) -> DeadLetterNotFoundError:
    return DeadLetterNotFoundError(f"no dead letter {record_id} in {queue}")


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Every way in which Redis can fail, as one error."""
    from redis.exceptions import RedisClusterException, RedisError  # noqa: PLC0415

    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise DeadLetterStoreError(
            f"dead letters cannot be reached: {type(error).__name__}: {error}"
        ) from error
