"""Which of the events that a subscription holds may be delivered now.

Events with the same partition value share a lane: only the first of a lane is ever tried, the others wait
until it is settled. Events without one have a lane of their own.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.dlq.record import Attempt, Record
    from sidecar.events.cloudevents import Event

NEVER: Final = float("inf")


class Parcel:
    """An entry of the stream on its way to every subscription of its type.

    Attributes:
        entry_id: Its place in the stream.
        event: The event.
        open: Subscriptions that have not settled it.
        lost: Whether another consumer has taken it over.
    """

    __slots__ = ("entry_id", "event", "lost", "open")

    def __init__(self, entry_id: str, event: Event, subscriptions: int) -> None:
        self.entry_id = entry_id
        self.event = event
        self.open = subscriptions
        self.lost = False


class Held:
    """A parcel in the hands of one subscription.

    Attributes:
        parcel: The parcel.
        attempts: Attempts so far, oldest first.
        dead_letter: What is left to do is to store this.
        burials: How often storing it has failed.
    """

    __slots__ = ("attempts", "burials", "dead_letter", "lane", "parcel")

    def __init__(self, parcel: Parcel, lane: bytes, attempts: list[Attempt]) -> None:
        self.parcel = parcel
        self.lane = lane
        self.attempts = attempts
        self.dead_letter: Record | None = None
        self.burials = 0


class Lanes:
    """The order of delivery.

    Attributes:
        in_flight: Events taken and neither settled nor postponed.
    """

    __slots__ = ("_lanes", "_number", "_ready", "_waiting", "in_flight")

    def __init__(self) -> None:
        self._lanes: dict[bytes, deque[Held]] = {}
        self._ready: deque[Held] = deque()
        self._waiting: list[tuple[float, int, Held]] = []
        self._number = 0
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<Lanes {self.in_flight} in flight, {len(self._ready)} ready, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> int:
        """Events that wait for their next attempt."""
        return len(self._waiting)

    def put(self, held: Held) -> None:
        """Add an event at the end of its lane."""
        lane = self._lanes.setdefault(held.lane, deque())
        lane.append(held)
        if len(lane) == 1:
            self._ready.append(held)

    def take(self, now: float) -> Held | None:
        """The next event to try, if there is one."""
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
        if not self._ready:
            return None
        self.in_flight += 1
        return self._ready.popleft()

    def postpone(self, held: Held, due: float) -> None:
        """Try a taken event again at ``due``. Its lane waits with it."""
        self.in_flight -= 1
        self._number += 1  # equal times keep their order, and events need no order of their own
        heapq.heappush(self._waiting, (due, self._number, held))

    def settle(self, held: Held) -> None:
        """A taken event is done with; the next one of its lane may go."""
        self.in_flight -= 1
        lane = self._lanes[held.lane]
        lane.popleft()
        if lane:
            self._ready.append(lane[0])
        else:
            del self._lanes[held.lane]

    def next_due(self) -> float:
        """When :meth:`take` may have something that it has not now; :data:`NEVER` unless an event waits."""
        return self._waiting[0][0] if self._waiting else NEVER
