"""Feeds the subscriptions of one event type from its stream, and keeps hold of what they have in their hands.

What keeps an event from being lost is its place among the group's pending entries: it leaves them when every
subscription has settled it. A consumer renews its entries six times in ``takeover``; those that nobody has
renewed for half of it are taken over by whoever looks next, so that at most two thirds of it pass.

Order per partition needs a single consumer: where a subscription asks for it, the consumers of a group elect
a leader, by a lease of the same length, and the others stand by.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from sidecar.events.lanes import Parcel
from sidecar.events.stream import Backlog, StreamError
from sidecar.retry.backoff import Backoff
from sidecar.tasks import end, heed_cancellation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.events.stream import Consumer, Entry
    from sidecar.events.subscription import Subscription

_AT_ONCE: Final = 32
_READ_WAIT: Final = 2.0
_MOST_HELD: Final = 1024
_HELD_PER_DELIVERY: Final = 16
_RENEWALS: Final = 6
_SWEEP_EVERY: Final = 30.0
_AFTER_TROUBLE: Final = Backoff(initial_delay=0.2, max_delay=5.0)

_logger = logging.getLogger(__name__)


class Feed:
    """Reads one stream for all subscriptions of its type.

    Args:
        event_type: The type.
        consumer: This process's part in the service's group.
        takeover: Seconds after which another process has the events of one that vanished, at least 1.

    Attributes:
        subscriptions: Who gets the events; to be filled before :meth:`start`.
    """

    def __init__(self, event_type: str, consumer: Consumer, *, takeover: float) -> None:
        self.event_type = event_type
        self.subscriptions: list[Subscription] = []
        self._consumer = consumer
        self._lease = takeover / 2
        self._beat = takeover / _RENEWALS
        self._held: dict[str, Parcel] = {}
        self._done: list[str] = []
        self._room = asyncio.Event()
        self._acknowledge = asyncio.Event()
        self._leading = asyncio.Event()
        self._leads_until = 0.0
        self._since_sweep = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Feed {self.event_type} {len(self._held)} held>"

    @property
    def ordered(self) -> bool:
        """Whether a subscription wants order, and only one consumer delivers."""
        return any(subscription.target.partition is not None for subscription in self.subscriptions)

    def start(self) -> None:
        """Begin to read and deliver."""
        if not self.ordered:
            self._leading.set()
        self._tasks = [
            asyncio.create_task(_for_ever(step), name=f"{name} {self.event_type}")
            for name, step in (("read", self._read), ("keep", self._keep), ("acknowledge", self._confirm))
        ]

    async def stop(self, grace: float) -> None:
        """Read nothing more, wait ``grace`` seconds for deliveries under way, and let others take the rest.

        Nothing is dead-lettered for it.
        """
        reading = self._tasks[:1]
        await end(reading)
        await asyncio.gather(*(subscription.stop(grace) for subscription in self.subscriptions))
        await end(self._tasks[1:])
        with contextlib.suppress(StreamError):  # then the takeover time has to pass
            if self._done:
                await self._consumer.acknowledge(self._done)
            await self._consumer.release()
            if self.ordered:
                await self._consumer.resign()

    async def backlog(self) -> Backlog:
        """What the group has still to do, or nothing known while streams cannot be reached."""
        try:
            return await self._consumer.backlog()
        except StreamError:
            return Backlog(None, len(self._held))

    def settled(self, parcel: Parcel) -> None:
        """A subscription is done with a parcel."""
        parcel.open -= 1
        if parcel.open == 0:
            self._done.append(parcel.entry_id)
            self._acknowledge.set()

    # Three loops; each step of them may fail and is tried again.

    async def _read(self) -> None:
        """One look into the stream, once there is room and this consumer leads."""
        await self._leading.wait()
        await self._consumer.open()
        while self._leading.is_set():
            room = self._capacity() - len(self._held)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            entries = await self._consumer.read(min(room, _AT_ONCE), _READ_WAIT)
            heed_cancellation()
            if self._leading.is_set():  # else the new leader finds them among what nobody renews
                self._accept(entries)

    async def _keep(self) -> None:
        """One beat: lead, hold on to what is held, take over what others have lost."""
        await self._consumer.open()
        if self.ordered:
            await self._lead()
        if self._held:
            for entry_id in await self._consumer.renew(list(self._held)):
                self._lose(entry_id)
        if self._leading.is_set():
            await self._take_over(self._lease)
        await self._sweep()
        await asyncio.sleep(self._beat)

    async def _confirm(self) -> None:
        """Acknowledge what is done, all that has gathered at once."""
        await self._acknowledge.wait()
        self._acknowledge.clear()
        done = self._done[:]
        if not done:
            return
        try:
            await self._consumer.acknowledge(done)
        except BaseException:
            self._acknowledge.set()
            raise
        del self._done[: len(done)]
        for entry_id in done:
            self._held.pop(entry_id, None)
        self._room.set()

    async def _lead(self) -> None:
        """Become or stay the leader; a new one first takes all that the one before held, in order."""
        now = asyncio.get_running_loop().time()
        try:
            leads = await self._consumer.lead(self._lease)
        except StreamError:
            if now >= self._leads_until:
                self._step_down()  # whoever can reach the streams leads by now
            raise
        if not leads:
            self._step_down()
            return
        self._leads_until = now + self._lease
        if self._leading.is_set():
            return
        await self._take_over(0)
        self._leading.set()

    def _step_down(self) -> None:
        if not self._leading.is_set():
            return
        _logger.warning("another consumer delivers %s from now on", self.event_type)
        self._leading.clear()
        for entry_id in list(self._held):
            self._lose(entry_id)

    async def _take_over(self, idle: float) -> None:
        """Take all that nobody has renewed for ``idle`` seconds, as far as there is room for it at all."""
        after = ""
        while len(self._held) < _MOST_HELD:
            entries = await self._consumer.take_over(idle, _AT_ONCE, after=after)
            self._accept(entries)
            if len(entries) < _AT_ONCE:
                return
            after = entries[-1].id

    async def _sweep(self) -> None:
        self._since_sweep += self._beat
        if self._since_sweep >= _SWEEP_EVERY:
            self._since_sweep = 0.0
            await self._consumer.sweep()

    def _capacity(self) -> int:
        at_once = sum(subscription.target.concurrency for subscription in self.subscriptions)
        return min(_MOST_HELD, _HELD_PER_DELIVERY * at_once)

    def _accept(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.id in self._held:
                continue
            parcel = Parcel(entry.id, entry.event, len(self.subscriptions))
            self._held[entry.id] = parcel
            for subscription in self.subscriptions:
                subscription.offer(parcel, entry)
        for subscription in self.subscriptions:
            subscription.pump()

    def _lose(self, entry_id: str) -> None:
        """Another consumer has the entry now: what is under way goes on, but nothing more begins."""
        parcel = self._held.pop(entry_id, None)
        if parcel is not None and parcel.open:
            event = parcel.event
            _logger.warning("event %s was taken over by another consumer", event.id, extra=event.log_fields)
            parcel.lost = True
        self._room.set()


async def _for_ever(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat ``step``; after a failure a pause, which grows while it goes on failing."""
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except StreamError as error:
            failures += 1
            if failures == 1:
                _logger.warning("%s", error)
        except Exception:
            failures += 1
            _logger.exception("the event bus failed in an unforeseen way and goes on")
        heed_cancellation()
        if failures:
            await asyncio.sleep(_AFTER_TROUBLE.delay(failures))
