"""Streams in the process's own memory, for development and tests. Nothing survives a restart."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from typing import TYPE_CHECKING

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.events.stream import Backlog, Entry, StreamError
from sidecar.ids import random_hex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.dlq.record import Attempt
    from sidecar.events.cloudevents import Event
    from sidecar.events.stream import EventRefusedError

_CAPACITY = 100_000

_Place = tuple[int, int]


class _Group:
    """How far one service has come."""

    def __init__(self) -> None:
        self.last: _Place = (0, 0)
        self.held: dict[_Place, _Hold] = {}
        self.attempts: dict[str, dict[str, tuple[Attempt, ...]]] = {}
        self.leader = ""
        self.leader_until = 0.0


class _Hold:
    """Who holds an event, since when, as far as anybody knows."""

    __slots__ = ("consumer", "since")

    def __init__(self, consumer: str, since: float) -> None:
        self.consumer = consumer
        self.since = since


class _Stream:
    """The events of one type."""

    def __init__(self) -> None:
        self.places: list[_Place] = []
        self.events: dict[_Place, Event] = {}
        self.groups: dict[str, _Group] = {}
        self.grown = asyncio.Event()

    def append(self, event: Event, milliseconds: int) -> None:
        last = self.places[-1] if self.places else (0, 0)
        for group in self.groups.values():
            last = max(last, group.last)
        place = (milliseconds, 0) if milliseconds > last[0] else (last[0], last[1] + 1)
        self.places.append(place)
        self.events[place] = event
        self.grown.set()

    def trim(self) -> None:
        """Drop what every group has done."""
        if not self.groups:
            return
        needed = min(
            min(group.held, default=(group.last[0], group.last[1] + 1)) for group in self.groups.values()
        )
        while self.places and self.places[0] < needed:
            del self.events[self.places.pop(0)]


class MemoryStreams:
    """Streams that live as long as the process.

    Args:
        clock: Tells how long events have been held.
        capacity: Events of one type at most; further ones are refused until some are delivered.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, capacity: int = _CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._streams: dict[str, _Stream] = {}

    def __repr__(self) -> str:
        return f"<MemoryStreams {', '.join(f'{name}: {len(s.places)}' for name, s in self._streams.items())}>"

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[EventRefusedError | None]:
        """Append events to the streams of their types."""
        for event_type, event in events:
            stream = self._stream(event_type)
            if len(stream.places) >= self._capacity:
                raise StreamError(f"the memory stream is full: it takes {self._capacity} events of a type")
            stream.append(event, int(self._clock.wall() * 1000))
        return [None] * len(events)

    def consumer(self, event_type: str, group: str, names: Sequence[str]) -> MemoryConsumer:  # noqa: ARG002
        """This process's part in a group."""
        return MemoryConsumer(self._stream(event_type), group, self._clock)

    async def close(self) -> None:
        """Nothing to give back."""

    def _stream(self, event_type: str) -> _Stream:
        return self._streams.setdefault(event_type, _Stream())


class MemoryConsumer:
    """A consumer of a memory stream."""

    def __init__(self, stream: _Stream, group: str, clock: Clock) -> None:
        self.name = random_hex(8)
        self._stream = stream
        self._group_name = group
        self._clock = clock

    @property
    def _group(self) -> _Group:
        return self._stream.groups.setdefault(self._group_name, _Group())

    async def open(self) -> None:
        """Make the group where it is missing."""
        self._stream.groups.setdefault(self._group_name, _Group())

    async def read(self, count: int, wait: float) -> list[Entry]:
        """Take new events."""
        entries = self._take_new(count)
        if not entries and wait > 0:
            self._stream.grown.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stream.grown.wait()
            entries = self._take_new(count)
        return entries

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """These are done."""
        for entry_id in entry_ids:
            self._group.held.pop(_place(entry_id), None)
            self._group.attempts.pop(entry_id, None)
        self._stream.trim()

    async def note(self, entry_id: str, name: str, attempts: Sequence[Attempt]) -> None:
        """Write down attempts."""
        self._group.attempts.setdefault(entry_id, {})[name] = tuple(attempts)

    async def renew(self, entry_ids: Sequence[str]) -> list[str]:
        """Hold these for longer."""
        lost = []
        for entry_id in entry_ids:
            hold = self._group.held.get(_place(entry_id))
            if hold is None or hold.consumer != self.name:
                lost.append(entry_id)
            else:
                hold.since = self._clock.monotonic()
        return lost

    async def take_over(self, idle: float, count: int, *, after: str = "") -> list[Entry]:
        """Take what its consumer has not renewed."""
        now, start = self._clock.monotonic(), _place(after or "0-0")
        held = sorted(self._group.held.items())
        stale = [place for place, hold in held if now - hold.since >= idle and place > start]
        return [self._take(place) for place in stale[:count]]

    async def release(self) -> None:
        """Let others take at once what this consumer holds."""
        for hold in self._group.held.values():
            if hold.consumer == self.name:
                hold.consumer, hold.since = "", float("-inf")

    async def lead(self, seconds: float) -> bool:
        """Whether this consumer is the only one to deliver."""
        group, now = self._group, self._clock.monotonic()
        if group.leader not in ("", self.name) and now < group.leader_until:
            return False
        group.leader, group.leader_until = self.name, now + seconds
        return True

    async def resign(self) -> None:
        """Let another consumer lead."""
        if self._group.leader == self.name:
            self._group.leader = ""

    async def sweep(self) -> None:
        """Nothing is left to clear away: acknowledging trims."""

    async def backlog(self) -> Backlog:
        """What the group has still to do."""
        taken = bisect_right(self._stream.places, self._group.last)
        return Backlog(len(self._stream.places) - taken, len(self._group.held))

    def _take_new(self, count: int) -> list[Entry]:
        start = bisect_right(self._stream.places, self._group.last)
        places = self._stream.places[start : start + count]
        if places:
            self._group.last = places[-1]
        return [self._take(place) for place in places]

    def _take(self, place: _Place) -> Entry:
        hold = self._group.held.get(place)
        self._group.held[place] = _Hold(self.name, self._clock.monotonic())
        entry_id = f"{place[0]}-{place[1]}"
        return Entry(
            entry_id,
            self._stream.events[place],
            self._group.attempts.get(entry_id, {}),
            hold.consumer if hold else "",
        )


def _place(entry_id: str) -> _Place:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
