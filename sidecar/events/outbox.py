"""Events that wait in the local spool until the streams can be reached again, and leave it in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.dlq.errors import DeadLetterError
from sidecar.events.codec import CodecError, decode, encode
from sidecar.events.stream import EventRefusedError, StreamError
from sidecar.retry.backoff import Backoff
from sidecar.spool.model import SpoolError
from sidecar.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.events.cloudevents import Event
    from sidecar.events.stream import Streams
    from sidecar.spool.model import Item, QueueStats

    Bury = Callable[[str, Event, Exception], Awaitable[None]]

QUEUE: Final = "events"
"""Name of the spool's queue."""

UNREADABLE: Final = "events_unreadable"
"""Name of the queue for what this version cannot read."""

_AT_ONCE: Final = 128
_LOOK_SECONDS: Final = 1.0  # other processes append to the same spool
_PAUSE: Final = Backoff(initial_delay=0.2, max_delay=5.0)

_logger = logging.getLogger(__name__)


class Queue(Protocol):
    """What the outbox needs of a spool."""

    async def append_many(self, queue: str, payloads: Sequence[bytes], *, owned: bool = False) -> int:
        """Add payloads in order; returns when they are on the disk."""
        ...

    async def peek(self, queue: str, limit: int, *, after: int = 0) -> list[Item]:
        """The first items."""
        ...

    async def discard(self, queue: str, up_to: int) -> int:
        """Remove items up to an id."""
        ...

    async def move(self, item_id: int, queue: str, payload: bytes) -> int | None:
        """Put an item at the end of another queue."""
        ...

    async def stats(self, queue: str) -> QueueStats:
        """How full the queue is."""
        ...

    def lead(self, queue: str) -> bool:
        """Whether this process is the one that delivers the queue."""
        ...


class Outbox:
    """A queue of events in the spool, and the task that empties it.

    Args:
        open_spool: Gives the open spool; called when it is needed first, which may be never.
        streams: Where the events are to go.
        bury: Makes a dead letter of an event that its stream refuses.

    Attributes:
        in_use: Whether events wait, so that later ones must wait behind them.
    """

    def __init__(self, open_spool: Callable[[], Awaitable[Queue]], *, streams: Streams, bury: Bury) -> None:
        self.in_use = False
        self._open_spool = open_spool
        self._spool: Queue | None = None
        self._streams = streams
        self._bury = bury
        self._filled = asyncio.Event()
        self._entering = asyncio.Lock()
        self._emptying: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Outbox {'in use' if self.in_use else 'empty'}>"

    async def resume(self) -> None:
        """Go on with what an earlier process has left in the spool.

        Raises:
            SpoolError: The spool cannot be used.
        """
        spool = await self._ready()
        self.in_use = (await spool.stats(QUEUE)).depth > 0

    async def put(self, events: Sequence[tuple[str, Event]]) -> None:
        """Add events, all or none; returns when they are on the disk.

        Raises:
            SpoolError: They are not.
        """
        spool = await self._ready()
        async with self._entering:
            await spool.append_many(QUEUE, [encode(event_type, event) for event_type, event in events])
            if not self.in_use:
                _logger.warning("events wait in the spool until the streams can be reached again")
            self.in_use = True
        self._filled.set()

    async def stop(self) -> None:
        """Leave what waits where it is: the next process goes on with it."""
        if self._emptying is not None:
            await end([self._emptying])

    async def _ready(self) -> Queue:
        if self._spool is None:
            self._spool = await self._open_spool()
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty_for_ever(self._spool), name="empty outbox")
        return self._spool

    async def _empty_for_ever(self, spool: Queue) -> None:
        failures = 0
        while True:
            try:
                await self._empty(spool)
                failures = 0
            except (StreamError, SpoolError, DeadLetterError) as error:
                failures += 1
                _logger.log(logging.WARNING if failures == 1 else logging.DEBUG, "%s", error)
            except Exception:
                failures += 1
                _logger.exception("emptying the spool failed in an unforeseen way; it goes on")
            if failures:
                await asyncio.sleep(_PAUSE.delay(failures))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._filled.wait()

    async def _empty(self, spool: Queue) -> None:
        """Take everything out, if it is this process that does."""
        self._filled.clear()
        if not spool.lead(QUEUE):
            self.in_use = (await spool.stats(QUEUE)).depth > 0
            return
        while True:
            items = await spool.peek(QUEUE, _AT_ONCE)
            if items:
                await self._pass_on(spool, items)
            elif await self._is_empty(spool):
                return

    async def _is_empty(self, spool: Queue) -> bool:
        """Whether nothing waits; from then on events go to the streams directly."""
        async with self._entering:  # nothing comes in between looking and saying so
            if await spool.peek(QUEUE, 1):
                return False
            if self.in_use:
                _logger.warning("all events of the spool are in their streams")
            self.in_use = False
            return True

    async def _pass_on(self, spool: Queue, items: Sequence[Item]) -> None:
        events = []
        for item in items:
            try:
                events.append(decode(item.payload))
            except CodecError as error:
                _logger.warning("an item of the spool is set aside in queue %s: %s", UNREADABLE, error)
                await spool.move(item.id, UNREADABLE, item.payload)
        answers: list[EventRefusedError | None] = await self._streams.append(events) if events else []
        for (event_type, event), refusal in zip(events, answers, strict=True):
            if refusal is not None:
                await self._bury(event_type, event, refusal)
        await spool.discard(QUEUE, items[-1].id)
