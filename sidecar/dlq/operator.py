"""What operators can see and do: the admin API, ``sidecar dlq`` and the web page call this."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.codec import require_readable
from sidecar.dlq.errors import (
    DeadLetterError,
    DeadLetterHeldError,
    DeadLetterNotFoundError,
    DeadLetterStoreError,
    DeadLetterUnreadableError,
    RedeliveryError,
)
from sidecar.dlq.payload import payload_bytes
from sidecar.dlq.record import Attempt, Edit, Record, clean_text
from sidecar.dlq.store import DEFAULT_LEASE, Page, Position, QueueName, Selection
from sidecar.ids import random_hex, uuid7
from sidecar.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sidecar.dlq.store import DeadLetterStore, QueueSummary

    Redeliver = Callable[[Record], Awaitable[None]]

LONGEST_PAGE = 1000
_BATCH = 100

_logger = logging.getLogger(__name__)

Result = Literal["delivered", "failed", "held", "gone", "unreadable", "would_retry"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one record in a retry of many.

    Attributes:
        record_id: Which one.
        result: ``would_retry`` in a dry run.
        error: Why it failed, or empty.
        last: Whether the rest is left alone, because it would fail in the same way.
    """

    record_id: str
    result: Result
    error: str = ""
    last: bool = False


class Operator:
    """Looks at dead letters and acts on them.

    ``by`` is who asks for a change and ``reason`` why: what a failed retry or an edit leaves in the record.

    Whoever calls logs the change; here it is only logged what becomes of each record in a retry of many.

    Event types are named alone where one service is meant by itself: this sidecar's queue comes first, then
    those of other services on the same store.

    Args:
        store: Where the records are.
        service: This sidecar's service.
        redeliver: Sends a record to where it failed; returns once it is delivered, else raises
            ``RedeliveryError``.
        clock: Tells when something happened.
    """

    def __init__(
        self, store: DeadLetterStore, *, service: str, redeliver: Redeliver, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._store = store
        self._service = service
        self._redeliver = redeliver
        self._clock = clock

    async def queues(self) -> list[QueueSummary]:
        """Every queue that has records."""
        return await self._store.queues()

    async def page(
        self,
        event_type: str,
        selection: Selection,
        *,
        service: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of records of one service, or of all that have this event type, in the selection's order.

        Raises:
            ValueError: ``limit`` is not 1 to 1000, or the cursor was not given out here.
        """
        if not 1 <= limit <= LONGEST_PAGE:
            raise ValueError(f"limit is 1 to {LONGEST_PAGE}, not {limit}")
        after = None if cursor is None else Position.parse(cursor)
        queues = await self._queues(event_type, service)
        pages = [await self._store.page(queue, selection, limit=limit, after=after) for queue in queues]
        return _merge(pages, limit, oldest_first=selection.oldest_first)

    async def get(self, event_type: str, record_id: str, *, service: str | None = None) -> Record:
        """One record.

        Raises:
            DeadLetterNotFoundError: There is none.
        """
        return (await self._find(event_type, record_id, service))[1]

    async def count(self, event_type: str, selection: Selection, *, service: str | None = None) -> int:
        """How many records a retry of many would try."""
        queues = await self._queues(event_type, service)
        return sum([await self._store.count(queue, selection) for queue in queues])

    async def retry(
        self, event_type: str, record_id: str, *, by: str, reason: str, service: str | None = None
    ) -> None:
        """Send a record to where it failed, with the same id and idempotency key; remove it when it is there.

        Raises:
            DeadLetterNotFoundError: There is none.
            DeadLetterHeldError: Another retry holds it.
            DeadLetterUnreadableError: It is not one of this version.
            RedeliveryError: It failed again; the attempt stands in the record.
        """
        queue, _record = await self._find(event_type, record_id, service)
        await self._retry(queue, record_id, by=by, reason=reason)

    async def retry_many(
        self,
        event_type: str,
        selection: Selection,
        *,
        by: str,
        reason: str,
        service: str | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> AsyncIterator[Outcome]:
        """Retry the records that are there now, oldest first, one after another.

        It ends early where the next one would meet the same fate: behind an open breaker.
        """
        until = self._clock.wall() if selection.until is None else selection.until
        selection = replace(selection, until=until, oldest_first=True)
        given = 0
        for queue in await self._queues(event_type, service):
            async for record in self._each(queue, selection):
                if given == limit:
                    return
                given += 1
                outcome = Outcome(record.id, "would_retry")
                if not dry_run:
                    outcome = await self._try(queue, record.id, by=by, reason=reason)
                    _logger.info(
                        "dead letter %s in %s: %s in a retry of many by %s: %s",
                        *(record.id, queue, outcome.result, by, reason),
                        extra={"correlation_id": record.correlation_id, "trace_id": record.trace_id},
                    )
                yield outcome
                if outcome.last:
                    return

    async def edit(
        self,
        event_type: str,
        record_id: str,
        payload: Any,
        *,
        by: str,
        reason: str,
        service: str | None = None,
    ) -> Record:
        """Put a copy with another payload in the record's place, under a new idempotency key.

        Raises:
            DeadLetterNotFoundError: There is none.
            DeadLetterHeldError: A retry holds it.
            DeadLetterUnreadableError: It is not one of this version.
        """
        queue, record = await self._find(event_type, record_id, service)
        require_readable(record)
        edit = Edit(at=self._clock.wall(), by=by, reason=reason, replaced_key=record.idempotency_key)
        edited = record.edited(payload_bytes(payload), edit, key=uuid7())
        await self._store.replace(queue, edited)
        return edited

    async def remove(self, event_type: str, record_id: str, *, service: str | None = None) -> None:
        """Remove a record for good.

        Raises:
            DeadLetterNotFoundError: There is none.
            DeadLetterHeldError: A retry holds it.
        """
        queue, record = await self._find(event_type, record_id, service)
        await self._store.remove(queue, record)

    async def _queues(self, event_type: str, service: str | None) -> list[QueueName]:
        """The queues meant, this sidecar's own first."""
        if service is not None:
            return [QueueName(service, event_type)]
        own = QueueName(self._service, event_type)
        names = await self._store.names()
        return [own, *(name for name in names if name.event_type == event_type and name != own)]

    async def _find(self, event_type: str, record_id: str, service: str | None) -> tuple[QueueName, Record]:
        for queue in await self._queues(event_type, service):
            with contextlib.suppress(DeadLetterNotFoundError):
                return queue, await self._store.get(queue, record_id)
        raise DeadLetterNotFoundError(f"no dead letter {record_id} of type {event_type}")

    async def _each(self, queue: QueueName, selection: Selection) -> AsyncIterator[Record]:
        after = None
        while True:
            page = await self._store.page(queue, selection, limit=_BATCH, after=after)
            for record in page.items:
                yield record
            if page.next is None:
                return
            after = page.next

    async def _try(self, queue: QueueName, record_id: str, *, by: str, reason: str) -> Outcome:
        try:
            await self._retry(queue, record_id, by=by, reason=reason)
        except RedeliveryError as error:
            return Outcome(record_id, "failed", error.message, last=error.upstream_down)
        except DeadLetterStoreError as error:
            return Outcome(record_id, "failed", str(error), last=True)
        except DeadLetterError as error:
            return Outcome(record_id, _refusal(error), str(error))
        return Outcome(record_id, "delivered")

    async def _retry(self, queue: QueueName, record_id: str, *, by: str, reason: str) -> None:
        require_readable(await self._store.get(queue, record_id))
        token = random_hex(16)
        record = await self._store.lease(queue, record_id, token, DEFAULT_LEASE)
        started = self._clock.monotonic()
        try:
            async with self._held(queue, record_id, token):
                await self._redeliver(record)
        except RedeliveryError as error:
            attempt = Attempt(
                at=self._clock.wall(),
                error=clean_text(error.message),
                status=error.status,
                duration=self._clock.monotonic() - started,
                spent=not error.upstream_down,  # nothing was sent
                by=by,
                reason=reason,
            )
            await self._store.keep(queue, record.failed_again(attempt), token)
            raise
        except BaseException:  # a shutdown, or a fault of our own: no attempt of the record's
            await asyncio.shield(self._store.keep(queue, record, token))
            raise
        with contextlib.suppress(DeadLetterNotFoundError):  # removed by a first try whose reply was lost
            await self._store.remove(queue, record, token)

    @contextlib.asynccontextmanager
    async def _held(self, queue: QueueName, record_id: str, token: str) -> AsyncIterator[None]:
        """Renew the lease for as long as the redelivery takes."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(DEFAULT_LEASE / 3)
                with contextlib.suppress(DeadLetterError):  # found out when the outcome is written
                    await self._store.lease(queue, record_id, token, DEFAULT_LEASE)

        renewal = asyncio.create_task(renew(), name=f"lease of dead letter {record_id}")
        try:
            yield
        finally:
            await end([renewal])


def _refusal(error: DeadLetterError) -> Result:
    if isinstance(error, DeadLetterHeldError):
        return "held"
    if isinstance(error, DeadLetterUnreadableError):
        return "unreadable"
    return "gone"


def _merge(pages: list[Page], limit: int, *, oldest_first: bool) -> Page:
    """One page out of one of each queue; all began after the same place."""
    if len(pages) == 1:
        return pages[0]
    # A page with more behind it says nothing about what lies beyond its end.
    ends = [page.next for page in pages if page.next is not None]
    bound = (min if oldest_first else max)(ends, default=None)
    known = [
        record
        for page in pages
        for record in page.items
        if bound is None or _within(Position.of(record), bound, oldest_first=oldest_first)
    ]
    known.sort(key=Position.of, reverse=not oldest_first)
    items = tuple(known[:limit])
    more = bound is not None or len(known) > limit
    return Page(items, (Position.of(items[-1]) if items else bound) if more else None)


def _within(place: Position, bound: Position, *, oldest_first: bool) -> bool:
    return place <= bound if oldest_first else place >= bound
