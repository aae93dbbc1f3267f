"""Feeds on streams in memory. They live in real time, but nothing here waits longer than it has to."""

import asyncio

import pytest

from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.record import Attempt
from sidecar.events import feed as feed_module
from sidecar.events.feed import Feed
from sidecar.events.memory import MemoryStreams
from sidecar.events.stream import Backlog, StreamError
from sidecar.events.subscription import Subscription, Target
from sidecar.retry.backoff import Backoff
from tests.unit.events.events import TYPE, an_event

GROUP = "requests"
PATHS = ("/hooks/a", "/hooks/b")
TAKEOVER = 0.06


class Deliveries:
    """What subscribers got, by path; one that is told to hang never answers."""

    def __init__(self):
        self.got = {}
        self.hanging = set()
        self.let_go = asyncio.Event()

    async def __call__(self, event, event_type, *, upstream, path, attempt):
        if path in self.hanging:
            await self.let_go.wait()
        self.got.setdefault(path, []).append(event.id)
        return 200


class Bench:
    """One process: a feed, its subscriptions, and what they deliver."""

    def __init__(self, streams, *, paths=PATHS[:1], **target):
        self.deliveries = Deliveries()
        self.consumer = streams.consumer(TYPE, GROUP, paths)
        self.feed = Feed(TYPE, self.consumer, takeover=TAKEOVER)
        self.feed.subscriptions += [
            Subscription(
                Target(event_type=TYPE, upstream="app", path=path, **target),
                service=GROUP,
                consumer=self.consumer,
                deliver=self.deliveries,
                dead_letters=MemoryDeadLetterStore(),
                settled=self.feed.settled,
                count=lambda outcome: None,
            )
            for path in paths
        ]

    def got(self, path=PATHS[0]):
        return self.deliveries.got.get(path, [])


async def until(holds):
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def publish(streams, *ids, data=b"{}"):
    await streams.append([(TYPE, an_event(event_id, data)) for event_id in ids])


@pytest.fixture
def streams():
    return MemoryStreams()


@pytest.fixture
async def process(streams, monkeypatch):
    monkeypatch.setattr(feed_module, "_AFTER_TROUBLE", Backoff(initial_delay=0.001, max_delay=0.001))
    monkeypatch.setattr(feed_module, "_READ_WAIT", 0.01)
    running = []

    def start(**options):
        it = Bench(streams, **options)
        running.append(it)
        it.feed.start()
        return it

    yield start
    for it in running:
        await it.feed.stop(0)


async def test_events_reach_every_subscription_and_are_acknowledged_after_all(streams, process):
    await publish(streams, "a", "b")
    it = process(paths=PATHS)
    await publish(streams, "c")
    await until(lambda: it.got(PATHS[1]) == it.got(PATHS[0]) == ["a", "b", "c"])
    await until(lambda: not it.feed._held)
    assert await it.feed.backlog() == Backlog(0, 0)
    assert it.feed.event_type in repr(it.feed)


async def test_what_is_not_settled_by_all_is_not_acknowledged(streams, process):
    it = process(paths=PATHS)
    it.deliveries.hanging.add(PATHS[1])
    await publish(streams, "a")
    await until(lambda: it.got() == ["a"])
    assert (await it.feed.backlog()).pending == 1


async def test_what_a_dead_process_held_is_delivered_by_another(streams, process):
    dead = streams.consumer(TYPE, GROUP, PATHS)
    await dead.open()
    await publish(streams, "a", "b")
    entries = await dead.read(10, 0)
    await dead.note(entries[0].id, PATHS[0], [Attempt(at=0, error="503")])
    it = process()
    await until(lambda: sorted(it.got()) == ["a", "b"])


async def test_a_feed_stops_although_its_driver_loses_cancellations(streams, process):
    """As redis-py does on Python 3.11 when one comes just as a command has been sent."""
    it = process()
    lost = []

    async def read(count, wait):
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            if lost:
                raise
            lost.append(1)
            return []

    it.consumer.read = read
    await asyncio.sleep(0.03)
    async with asyncio.timeout(5):
        await it.feed.stop(0)
    assert lost
    assert all(task.cancelled() for task in it.feed._tasks)


async def test_what_a_living_process_holds_is_left_to_it(streams, process):
    first = process()
    first.deliveries.hanging.add(PATHS[0])
    await publish(streams, "a")
    await until(lambda: first.feed._held)
    second = process()
    await asyncio.sleep(TAKEOVER * 3)
    assert second.got() == []


async def test_what_is_under_way_at_the_end_is_free_for_others_at_once(streams, process):
    first = process()
    first.deliveries.hanging.add(PATHS[0])
    await publish(streams, "a")
    await until(lambda: first.feed._held)
    await first.feed.stop(0)
    second = process()
    await until(lambda: second.got() == ["a"])


async def test_an_event_that_was_taken_over_is_let_go(streams, process):
    it = process()
    it.deliveries.hanging.add(PATHS[0])
    await publish(streams, "a", "b")
    await until(lambda: len(it.feed._held) == 2)
    thief = streams.consumer(TYPE, GROUP, PATHS)
    await thief.take_over(0, 10)
    await until(lambda: not it.feed._held)


async def test_one_process_at_a_time_delivers_in_order(streams, process):
    ordered = {"partition": ("customer",)}
    first = process(**ordered)
    assert first.feed.ordered
    await publish(streams, "a", data=b'{"customer":1}')
    await until(lambda: first.got() == ["a"])
    second = process(**ordered)
    await publish(streams, "b", "c", data=b'{"customer":1}')
    await until(lambda: first.got() == ["a", "b", "c"])
    assert second.got() == []
    await first.feed.stop(1)
    await publish(streams, "d", data=b'{"customer":1}')
    await until(lambda: second.got() == ["d"])


async def test_a_new_leader_begins_with_what_the_one_before_had_in_its_hands(streams, process):
    ordered = {"partition": ("customer",)}
    first = process(**ordered)
    first.deliveries.hanging.add(PATHS[0])
    await publish(streams, "a", "b", data=b'{"customer":1}')
    await until(lambda: len(first.feed._held) == 2)
    first.consumer.lead = lambda seconds: _false()  # it has lost its lease
    await until(lambda: not first.feed._held)
    await first.consumer.resign()
    second = process(**ordered)
    await publish(streams, "c", data=b'{"customer":1}')
    await until(lambda: second.got() == ["a", "b", "c"])


async def _false():
    return False


async def test_a_leader_that_cannot_reach_the_streams_for_long_leads_no_more(streams, process):
    first = process(partition=("customer",))
    first.deliveries.hanging.add(PATHS[0])
    await publish(streams, "a", "b", data=b'{"customer":1}')
    await until(lambda: len(first.feed._held) == 2)
    first.consumer.lead = lambda seconds: _gone()
    await until(lambda: not first.feed._held)
    assert not first.feed._leading.is_set()


async def test_reading_stops_while_hands_are_full(streams, process, monkeypatch):
    monkeypatch.setattr(feed_module, "_HELD_PER_DELIVERY", 1)
    it = process(concurrency=2)
    it.deliveries.hanging.add(PATHS[0])
    await publish(streams, *"abcde")
    await until(lambda: len(it.feed._held) == 2)
    await asyncio.sleep(TAKEOVER)
    assert (await it.feed.backlog()).lag == 3
    it.deliveries.let_go.set()
    await until(lambda: it.got() == ["a", "b", "c", "d", "e"])


async def test_streams_that_are_away_for_a_while(streams, process):
    it = Bench(streams)
    failures = {"open": 2, "read": 2, "acknowledge": 2, "renew": 1, "sweep": 1}
    for name in failures:
        setattr(it.consumer, name, _failing(getattr(it.consumer, name), failures, name))
    it.feed._since_sweep = feed_module._SWEEP_EVERY
    it.feed.start()
    await publish(streams, "a")
    await until(lambda: it.got() == ["a"] and not it.feed._held)
    it.consumer.backlog = it.consumer.release = _gone
    assert await it.feed.backlog() == Backlog(None, 0)
    await it.feed.stop(0)


def _failing(method, failures, name):
    async def call(*arguments, **options):
        if failures[name]:
            failures[name] -= 1
            raise StreamError("away") if failures[name] else RuntimeError("bug")
        return await method(*arguments, **options)

    return call


async def _gone():
    raise StreamError("away")


async def test_what_is_done_but_not_acknowledged_is_so_at_the_end(streams, process):
    it = process()
    acknowledge = it.consumer.acknowledge
    it.consumer.acknowledge = lambda entry_ids: _gone()
    await publish(streams, "a")
    await until(lambda: it.got() == ["a"])
    it.consumer.acknowledge = acknowledge
    await it.feed.stop(1)
    assert (await it.consumer.backlog()).pending == 0
