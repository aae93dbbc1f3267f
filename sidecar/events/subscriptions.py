"""All subscriptions of a sidecar, as the configuration has them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from sidecar.audit.pointer import parse_pointer
from sidecar.events.feed import Feed
from sidecar.events.subscription import Subscription, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.stream import Streams
    from sidecar.events.subscription import Deliver
    from sidecar.settings import model

_CHANGE_GRACE = 5.0


class Report(NamedTuple):
    """A subscription at this moment.

    Attributes:
        target: What it is.
        lag: Events that no consumer of the service has taken yet; ``None`` where nobody can tell.
        pending: Events that consumers of the service hold.
        in_flight: Deliveries of this process that are under way.
        waiting: Events in this process's hands that wait for another attempt.
        paused_for: Seconds until an upstream whose breaker is open is asked again; 0 if it is not open.
        last_error: The last failure, or empty.
    """

    target: Target
    lag: int | None
    pending: int
    in_flight: int
    waiting: int
    paused_for: float
    last_error: str


class _Running(NamedTuple):
    """A feed, and what it was made from."""

    made_from: tuple[float, tuple[model.Subscription, ...]]
    feed: Feed


class Subscriptions:
    """Starts and stops feeds.

    Args:
        service: The sidecar's service; its name is that of the consumer group.
        streams: Where events come from.
        deliver: How they go to services.
        dead_letters: Where those go that cannot be delivered.
        count: Called with what came of each attempt, for the metric.
    """

    def __init__(
        self,
        *,
        service: str,
        streams: Streams,
        deliver: Deliver,
        dead_letters: DeadLetterStore,
        count: Callable[[str], None],
    ) -> None:
        self._service = service
        self._streams = streams
        self._deliver = deliver
        self._dead_letters = dead_letters
        self._count = count
        self._running: dict[str, _Running] = {}

    def __repr__(self) -> str:
        return f"<Subscriptions of {', '.join(self._running) or 'nothing'}>"

    async def apply(self, events: model.Events) -> None:
        """Run the subscriptions of this configuration; those that stay as they are go on undisturbed."""
        wanted: dict[str, tuple[model.Subscription, ...]] = {}
        for subscription in events.subscriptions:
            wanted[subscription.type] = (*wanted.get(subscription.type, ()), subscription)
        for event_type, running in list(self._running.items()):
            if running.made_from != (events.takeover, wanted.get(event_type)):
                del self._running[event_type]
                await running.feed.stop(_CHANGE_GRACE)
        for event_type, subscriptions in wanted.items():
            if event_type not in self._running:
                feed = self._feed(event_type, subscriptions, events.takeover)
                self._running[event_type] = _Running((events.takeover, subscriptions), feed)
                feed.start()

    async def stop(self, grace: float) -> None:
        """Deliver nothing more; what is under way has ``grace`` seconds, the rest is left to others."""
        running, self._running = self._running, {}
        await asyncio.gather(*(entry.feed.stop(grace) for entry in running.values()))

    def targets(self, event_type: str) -> list[Target]:
        """The subscriptions of an event type."""
        running = self._running.get(event_type)
        return [] if running is None else [one.target for one in running.feed.subscriptions]

    async def report(self) -> list[Report]:
        """How each subscription is doing."""
        reports = []
        for running in self._running.values():
            backlog = await running.feed.backlog()
            reports += [
                Report(
                    one.target,
                    backlog.lag,
                    backlog.pending,
                    one.in_flight,
                    one.waiting,
                    one.paused_for,
                    one.last_error,
                )
                for one in running.feed.subscriptions
            ]
        return reports

    def _feed(self, event_type: str, wanted: Sequence[model.Subscription], takeover: float) -> Feed:
        targets = [_target(subscription, alone=len(wanted) == 1) for subscription in wanted]
        names = [target.name for target in targets]
        consumer = self._streams.consumer(event_type, self._service, names)
        feed = Feed(event_type, consumer, takeover=takeover)
        feed.subscriptions += [
            Subscription(
                target,
                service=self._service,
                consumer=consumer,
                deliver=self._deliver,
                dead_letters=self._dead_letters,
                settled=feed.settled,
                count=self._count,
            )
            for target in targets
        ]
        return feed


def _target(subscription: model.Subscription, *, alone: bool) -> Target:
    partition = subscription.partition_by
    return Target(
        event_type=subscription.type,
        upstream=subscription.upstream,
        path=subscription.path,
        max_attempts=subscription.max_attempts,
        concurrency=subscription.concurrency,
        partition=None if partition is None else parse_pointer(partition),
        alone=alone,
    )
