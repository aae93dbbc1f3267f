"""Publishing: an event is durable when :meth:`Publisher.publish` returns.

Events that arrive together go to the streams in one round trip. While the streams cannot be reached they go
to the local spool, and so do those that come after them until the spool is empty again: their order is kept.
What a stream will never take, and what finds neither stream nor spool, becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.errors import DeadLetterError
from sidecar.errors import CircuitOpen
from sidecar.events.stream import StreamError
from sidecar.retry.decorator import Retry
from sidecar.spool.model import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.events.cloudevents import Event
    from sidecar.events.outbox import Bury, Outbox
    from sidecar.events.stream import Streams

_AT_ONCE: Final = 128
_MOST_WAITING: Final = 10_000

_logger = logging.getLogger(__name__)

Where = Literal["streamed", "spooled", "dead_lettered"]


class Published(NamedTuple):
    """An event that is durable.

    Attributes:
        id: The event's.
        where: Its place.
    """

    id: str
    where: Where


class EventsUnavailableError(Exception):
    """The event could not be made durable anywhere; nothing of it was kept."""


class _Waiting(NamedTuple):
    """An event on its way, and whoever waits for it."""

    event_type: str
    event: Event
    published: asyncio.Future[Where]


class Publisher:
    """Publishes events.

    Args:
        streams: Where they are to go.
        bury: Makes dead letters of those that find no other place.
        outbox: Where they wait while streams cannot be reached; without it they become dead letters then.
        count: Called with where each event went, or ``refused``, for the metric.
        breaker: A breaker of the caller's own.
        retry: A retry of the caller's own.
        clock: Tells the time.

    Attributes:
        breaker: Keeps publishers from waiting for streams that are down.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        bury: Bury,
        outbox: Outbox | None,
        count: Callable[[str], None],
        breaker: CircuitBreaker | None = None,
        retry: Retry | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        # Short, because it is not the breaker that keeps the load off streams that come back: the spool does.
        self.breaker = breaker or CircuitBreaker(
            "events", reset_timeout=1.0, success_threshold=1, clock=clock
        )
        retry = retry or Retry(max_attempts=2)
        self._append = retry(self.breaker(streams.append))
        self._bury = bury
        self._outbox = outbox
        self._count = count
        self._waiting: deque[_Waiting] = deque()
        self._runner: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Publisher {len(self._waiting)} waiting, {self.breaker!r}, {self._outbox!r}>"

    async def publish(self, event_type: str, event: Event) -> Where:
        """Make an event durable; where it is when that is done.

        Raises:
            EventsUnavailableError: It could be stored nowhere.
        """
        if len(self._waiting) >= _MOST_WAITING:
            self._count("refused")
            raise EventsUnavailableError(f"{_MOST_WAITING} events are waiting to be stored already")
        waiting = _Waiting(event_type, event, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="publish events")
        return await waiting.published

    async def stop(self) -> None:
        """Return when everything that was given to :meth:`publish` is stored or refused."""
        if self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        """Store what waits, all that has gathered at once, until nothing does."""
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
                try:
                    await self._store(batch)
                except Exception as error:
                    _logger.exception("publishing failed in an unforeseen way and goes on")
                    _fail(batch, error)
                except BaseException as error:
                    _fail(batch, error)
                    raise
        finally:
            self._runner = None

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        events = [(waiting.event_type, waiting.event) for waiting in batch]
        if self._outbox is not None and self._outbox.in_use:
            await self._set_aside(batch, "earlier events wait for the streams")
            return
        try:
            answers = await self._append(events)
        except (StreamError, CircuitOpen) as error:
            await self._set_aside(batch, str(error))
            return
        for waiting, refusal in zip(batch, answers, strict=True):
            if refusal is None:
                self._done(waiting, "streamed")
            else:
                await self._give_up(waiting, refusal)

    async def _set_aside(self, batch: Sequence[_Waiting], problem: str) -> None:
        """Into the spool, all or none of them."""
        error: Exception = StreamError(problem)
        if self._outbox is not None:
            try:
                await self._outbox.put([(waiting.event_type, waiting.event) for waiting in batch])
            except SpoolError as spool_error:
                error = StreamError(f"{problem}; {spool_error}")
            else:
                for waiting in batch:
                    self._done(waiting, "spooled")
                return
        for waiting in batch:
            await self._give_up(waiting, error)

    async def _give_up(self, waiting: _Waiting, error: Exception) -> None:
        """Into the dead letters, the last place there is."""
        try:
            await self._bury(waiting.event_type, waiting.event, error)
        except DeadLetterError as store_error:
            self._count("refused")
            if not waiting.published.done():
                waiting.published.set_exception(EventsUnavailableError(f"{error}; {store_error}"))
        else:
            self._done(waiting, "dead_lettered")

    def _done(self, waiting: _Waiting, where: Where) -> None:
        self._count(where)
        if not waiting.published.done():  # else whoever published it has gone away
            waiting.published.set_result(where)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    """Tell those that still wait of a fault of our own, or of the end."""
    for waiting in batch:
        if not waiting.published.done():
            waiting.published.set_exception(EventsUnavailableError(f"publishing failed: {error!r}"))
