"""Publishing: an event is durable when :meth:`Publisher.publish` returns.

Events that arrive together go to Redis in one round trip. While Redis is away they go to the local spool, and so do
those that come after them until the spool is empty again: their order is kept. What a stream will never take, and what
finds neither Redis nor spool, becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.errors import DeadLetterError
from sidecar.dlq.record import Attempt, Origin, Record, clean_text
from sidecar.dlq.store import QueueName
from sidecar.errors import CircuitOpen
from sidecar.events.cloudevents import idempotency_key
from sidecar.events.envelope import pack, unpack
from sidecar.events.identity import record_id
from sidecar.events.stream import EventRefusedError, StreamError
from sidecar.resilient import resilient
from sidecar.retry.backoff import Backoff
from sidecar.spool.model import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.cloudevents import Event
    from sidecar.events.stream import Streams
    from sidecar.spool.model import Item, QueueStats

QUEUE: Final = "events"
"""Name of the spool's queue."""

_AT_ONCE: Final = 128
_DRAIN_PAUSE: Final = Backoff(initial_delay=0.2, max_delay=5.0)

_logger = logging.getLogger(__name__)

Where = Literal["stream", "spool", "dead_letter"]


class EventsUnavailableError(Exception):
    """The event could not be made durable anywhere; nothing of it was kept."""


class Published(NamedTuple):
    """Where an event is now.

    Attributes:
        where: The place.
        dead_letter_id: Its record's id, if it is a dead letter.
    """

    where: Where
    dead_letter_id: str = ""


class Queue(Protocol):
    """What the publisher needs of a spool."""

    async def append_many(self, queue: str, payloads: Sequence[bytes], *, owned: bool = False) -> int:
        """Add payloads in order; returns when they are on the disk."""
        ...

    async def peek(self, queue: str, limit: int, *, after: int = 0) -> list[Item]:
        """The first items."""
        ...

    async def discard(self, queue: str, up_to: int) -> int:
        """Remove items up to an id."""
        ...

    async def stats(self, queue: str) -> QueueStats:
        """How full the queue is."""
        ...

    def lead(self, queue: str) -> bool:
        """Whether this process is the one that delivers the queue."""
        ...


class _Waiting(NamedTuple):
    """An event that is on its way."""

    event_type: str
    event: Event
    published: asyncio.Future[Published]
