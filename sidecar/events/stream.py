"""What the bus needs of a stream. ``memory`` and ``streams`` (Redis) fill it in.

A stream holds the events of one type, in order. Each service is one consumer group: every event goes to one
of its consumers (processes), which holds it until it is acknowledged. What a consumer holds and does not
renew for a time is taken over by another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.dlq.record import Attempt
    from sidecar.events.cloudevents import Event

RETENTION = 30 * 86400.0
"""Seconds after which an event leaves its stream even if a group has never taken it."""


class StreamError(Exception):
    """The streams cannot be used now; it makes sense to try again."""


class EventRefusedError(Exception):
    """The stream will never take this event: its key holds something else."""


class Entry(NamedTuple):
    """An event in a stream, held by this consumer.

    Attributes:
        id: Its place; later ones are greater.
        event: The event.
        attempts: Attempts that were noted, by the name of the subscription.
        lost_by: The consumer that held it before and vanished, or empty.
    """

    id: str
    event: Event
    attempts: Mapping[str, tuple[Attempt, ...]] = {}
    lost_by: str = ""


class Backlog(NamedTuple):
    """What a group has still to do.

    Attributes:
        lag: Events that no consumer has taken yet; ``None`` where the server cannot tell (Redis before 7).
        pending: Events that consumers hold.
    """

    lag: int | None
    pending: int


class Consumer(Protocol):
    """One process's part in the group of its service, for one event type.

    Every method raises :class:`StreamError` where the stream cannot be used.
    """

    async def open(self) -> None:
        """Make stream and group where they are missing; a new group begins with the oldest event there is."""
        ...

    async def read(self, count: int, wait: float) -> list[Entry]:
        """Take up to ``count`` new events; waits up to ``wait`` seconds for the first one."""
        ...

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """These are done."""
        ...

    async def note(self, entry_id: str, name: str, attempts: Sequence[Attempt]) -> None:
        """Write down the attempts to deliver an event to one subscription, for whoever takes it over."""
        ...

    async def renew(self, entry_ids: Sequence[str]) -> list[str]:
        """Hold these for longer; gives back those that somebody else holds by now."""
        ...

    async def take_over(self, idle: float, count: int, *, after: str = "") -> list[Entry]:
        """Take up to ``count`` events, oldest first, that nobody has renewed for ``idle`` seconds.

        Args:
            idle: Seconds; 0 takes whatever is held, this consumer's own included.
            count: How many at most.
            after: Id of the entry to go on after.
        """
        ...

    async def release(self) -> None:
        """Let others take at once what this consumer holds, and leave the group: an orderly end."""
        ...

    async def lead(self, seconds: float) -> bool:
        """Whether this consumer alone delivers, for the next ``seconds``; ask again before they end."""
        ...

    async def resign(self) -> None:
        """Let another consumer lead."""
        ...

    async def sweep(self) -> None:
        """Trim what every group has done, and strike consumers off that are long gone."""
        ...

    async def backlog(self) -> Backlog:
        """What the group has still to do."""
        ...


class Streams(Protocol):
    """All streams of a bus."""

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[EventRefusedError | None]:
        """Append events to the streams of their types, in order; one answer for each.

        Raises:
            StreamError: Streams cannot be used now. Some events may have been appended all the same.
        """
        ...

    def consumer(self, event_type: str, group: str, names: Sequence[str]) -> Consumer:
        """This process's part in a group whose subscriptions have these names."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
