"""The dead letter queue for programs, without the sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.codec import parse_timestamp, require_readable
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.payload import payload_bytes
from sidecar.dlq.record import Attempt, Origin, Record, check_event_type, clean_text
from sidecar.dlq.store import DEFAULT_LEASE, DeadLetterStore, Position, QueueName, Selection
from sidecar.ids import random_hex, uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Some records; a sequence of them.

    Attributes:
        items: The records.
        cursor: Give it to :meth:`DeadLetterQueue.list` for the next page; ``None`` on the last one.
    """

    items: tuple[Record, ...]
    cursor: str | None

    def __iter__(self) -> Iterator[Record]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Record:
        return self.items[index]


class DeadLetterQueue:
    """Dead letters of one service, in Redis, or in memory for development.

    ::

        dlq = DeadLetterQueue(redis_url="redis://localhost:6379", queue_prefix="dlq:requests:")
        await dlq.enqueue("REQUEST_CREATED", payload, error, {"source_service": "requests-service"})
        for record in await dlq.list("REQUEST_CREATED"): ...
        record = await dlq.dequeue("REQUEST_CREATED", record_id)   # held for this queue
        ...                                                        # process record.payload
        await dlq.remove("REQUEST_CREATED", record_id)

    All methods raise :class:`~sidecar.dlq.errors.DeadLetterStoreError` where Redis cannot be used.

    Args:
        redis_url: Where Redis is; without it, and without ``store``, records are kept in memory.
        store: A store to use in place of ``redis_url``.
        queue_prefix: ``<root>:<service>:``. The key of a queue is the prefix and the event type; the set
            ``<root>:index`` names the queues.
        max_age_days: Days that a record is kept, above 0.
        lease_seconds: How long a dequeued record is held before others may take it, above 0.
        clock: Tells when records are stored.

    Raises:
        ValueError: An argument is malformed or out of its range.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        store: DeadLetterStore | None = None,
        queue_prefix: str = "dlq:default:",
        max_age_days: float = 30,
        lease_seconds: float = DEFAULT_LEASE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        root, service = _split_prefix(queue_prefix)
        if max_age_days <= 0 or lease_seconds <= 0:
            raise ValueError(
                f"max_age_days and lease_seconds must be above 0, got {max_age_days} and {lease_seconds}"
            )
        self._service = service
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._tokens: dict[tuple[str, str], str] = {}
        self._store = store or _open_store(redis_url, root, max_age_days * _DAY, clock)

    def __repr__(self) -> str:
        return f"<DeadLetterQueue {self._service} in {self._store!r}>"

    async def enqueue(
        self,
        event_type: str,
        payload: Any,
        error: BaseException | str,
        metadata: Mapping[str, str] | None = None,
        *,
        source_service: str = "",
        correlation_id: str = "",
        trace_id: str = "",
        reason: str = "",
    ) -> Record:
        """Store what could not be processed; returns once it is stored.

        Args:
            event_type: 1 to 100 letters, digits, ``_``, ``.`` and ``-``.
            payload: Anything. What JSON cannot express is stored as its ``repr``, bytes as they are.
            error: What went wrong.
            metadata: The arguments below, for callers that have them in a mapping.
            source_service: Where it failed; the queue's service by default.
            correlation_id: Of the event.
            trace_id: Of the event.
            reason: The failure in one word; the error's class by default.

        Raises:
            ValueError: The event type is malformed, or ``metadata`` has a member of another name.
        """
        check_event_type(event_type)
        about = {
            "source_service": source_service or self._service,
            "correlation_id": correlation_id,
            "trace_id": trace_id,
            "reason": reason or ("error" if isinstance(error, str) else type(error).__name__),
        }
        for name, value in (metadata or {}).items():
            if name not in about:
                raise ValueError(f"metadata has {', '.join(about)}; not {name!r}")
            about[name] = value or about[name]
        record = self._record(event_type, payload, error, about)
        await self._store.add(self._queue(event_type), record)
        return record

    async def list(
        self,
        event_type: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        correlation_id: str | None = None,
        since: float | str | None = None,
    ) -> RecordPage:
        """A page of records, newest first.

        Args:
            event_type: Which queue.
            limit: Records in it at most, 1 to 1000.
            cursor: That of the page before.
            correlation_id: Only those with this one.
            since: Only those stored then or later: seconds since the Unix epoch, or RFC 3339.

        Raises:
            ValueError: An argument is malformed or out of its range.
        """
        if not 1 <= limit <= 1000:  # noqa: PLR2004
            raise ValueError(f"limit is 1 to 1000, not {limit}")
        since = parse_timestamp(since) if isinstance(since, str) else since
        selection = Selection(correlation_id=correlation_id, since=since)
        after = None if cursor is None else Position.parse(cursor)
        page = await self._store.page(self._queue(event_type), selection, limit=limit, after=after)
        return RecordPage(page.items, None if page.next is None else str(page.next))

    async def dequeue(self, event_type: str, record_id: str) -> Record:
        """Take a record out for processing.

        It stays stored until :meth:`remove`. Nobody else can take it before, for ``lease_seconds`` at most.

        Raises:
            DeadLetterNotFoundError: There is none.
            DeadLetterHeldError: Somebody else has it.
            DeadLetterUnreadableError: It is not one of this version.
        """
        queue = self._queue(event_type)
        require_readable(await self._store.get(queue, record_id))
        token = self._tokens.get((event_type, record_id)) or random_hex(16)
        record = await self._store.lease(queue, record_id, token, self._lease_seconds)
        self._tokens[event_type, record_id] = token
        return record

    async def release(self, event_type: str, record_id: str, error: BaseException | str) -> None:
        """Give a dequeued record back: processing failed again, as is noted in it.

        Raises:
            DeadLetterNotFoundError: There is none, or it was not dequeued here.
            DeadLetterHeldError: The lease has run out and somebody else has it now.
        """
        queue = self._queue(event_type)
        token = self._tokens.pop((event_type, record_id), "")
        record = require_readable(await self._store.get(queue, record_id))
        attempt = Attempt(at=self._clock.wall(), error=clean_text(str(error)))
        await self._store.keep(queue, record.failed_again(attempt), token)

    async def remove(self, event_type: str, record_id: str) -> None:
        """Remove a record, dequeued or not.

        Raises:
            DeadLetterNotFoundError: There is none.
            DeadLetterHeldError: Somebody else has it.
        """
        queue = self._queue(event_type)
        record = await self._store.get(queue, record_id)
        await self._store.remove(queue, record, self._tokens.pop((event_type, record_id), ""))

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._store.close()

    def _record(
        self, event_type: str, payload: Any, error: BaseException | str, about: dict[str, str]
    ) -> Record:
        now = self._clock.wall()
        record_id = uuid7()
        text = clean_text(error if isinstance(error, str) else str(error) or type(error).__name__)
        return Record(
            id=record_id,
            event_type=event_type,
            origin=Origin(kind="library"),
            data=payload_bytes(payload),
            event={},
            error=text,
            reason=clean_text(about["reason"]),
            attempts=(Attempt(at=now, error=text),),
            source_service=clean_text(about["source_service"]),
            correlation_id=clean_text(about["correlation_id"]),
            trace_id=clean_text(about["trace_id"]),
            idempotency_key=record_id,
            first_failed_at=now,
            last_failed_at=now,
            stored_at=now,
        )

    def _queue(self, event_type: str) -> QueueName:
        return QueueName(self._service, event_type)


def _split_prefix(prefix: str) -> tuple[str, str]:
    root, _, service = prefix.removesuffix(":").partition(":")
    if not (root and service and prefix.endswith(":")) or "{" in prefix or "}" in prefix:
        raise ValueError(
            f"queue_prefix is ROOT:SERVICE: such as 'dlq:requests:', without braces, not {prefix!r}"
        )
    return root, service


def _open_store(redis_url: str | None, root: str, max_age: float, clock: Clock) -> DeadLetterStore:
    if redis_url is None:
        return MemoryDeadLetterStore(max_age=max_age, clock=clock)
    from sidecar.dlq.connect import open_redis  # noqa: PLC0415 - Redis only where it is used
    from sidecar.dlq.redis import RedisDeadLetterStore  # noqa: PLC0415

    return RedisDeadLetterStore(open_redis(redis_url), root=root, max_age=max_age, clock=clock)
