import asyncio

import pytest

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.clock import ManualClock
from sidecar.dlq.errors import DeadLetterStoreError
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.store import QueueName, Selection
from sidecar.events import outbox as outbox_module
from sidecar.events import publisher as publisher_module
from sidecar.events.burial import Burial
from sidecar.events.codec import encode
from sidecar.events.outbox import QUEUE, UNREADABLE, Outbox
from sidecar.events.publisher import EventsUnavailableError, Publisher
from sidecar.events.stream import EventRefusedError, StreamError
from sidecar.retry.backoff import Backoff
from sidecar.retry.decorator import Retry
from sidecar.spool.model import Item, QueueStats, SpoolUnavailable
from tests.unit.events.events import NOW, TYPE, an_event


class FakeStreams:
    """Takes events, in order; down or refusing as told."""

    def __init__(self):
        self.taken = []
        self.batches = []
        self.down = False
        self.refused = set()
        self.gate = None

    async def append(self, events):
        self.batches.append(len(events))
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StreamError("streams are away")
        answers = []
        for event_type, event in events:
            refused = event_type in self.refused
            answers.append(EventRefusedError("WRONGTYPE") if refused else None)
            if not refused:
                self.taken.append(event.id)
        return answers


class FakeSpool:
    """Queues that live as long as the test."""

    def __init__(self):
        self.items = []
        self.number = 0
        self.moved = []
        self.broken = False
        self.leads = True

    async def open(self):
        if self.broken:
            raise SpoolUnavailable("the disk is gone")
        return self

    async def append_many(self, queue, payloads, *, owned=False):
        assert queue == QUEUE
        if self.broken:
            raise SpoolUnavailable("the disk is gone")
        for payload in payloads:
            self.number += 1
            self.items.append(Item(self.number, NOW, payload))
        return self.number

    async def peek(self, queue, limit, *, after=0):
        return self.items[:limit]

    async def discard(self, queue, up_to):
        self.items = [item for item in self.items if item.id > up_to]

    async def move(self, item_id, queue, payload):
        assert queue == UNREADABLE
        self.moved.append(payload)
        self.items = [item for item in self.items if item.id != item_id]

    async def stats(self, queue):
        return QueueStats(depth=len(self.items))

    def lead(self, queue):
        return self.leads


class Bench:
    """A publisher and everything around it."""

    def __init__(self, *, with_outbox=True):
        clock = ManualClock(wall=NOW)
        self.streams = FakeStreams()
        self.spool = FakeSpool()
        self.store = MemoryDeadLetterStore(clock=clock)
        self.counts = []
        bury = Burial(self.store, "requests", clock)
        self.outbox = Outbox(self.spool.open, streams=self.streams, bury=bury) if with_outbox else None
        self.publisher = Publisher(
            self.streams,
            bury=bury,
            outbox=self.outbox,
            count=self.counts.append,
            breaker=CircuitBreaker("events", failure_threshold=3, clock=clock),
            retry=Retry(max_attempts=2, initial_delay=0),
        )

    async def publish(self, *ids, event_type=TYPE):
        return await asyncio.gather(
            *(self.publisher.publish(event_type, an_event(event_id)) for event_id in ids)
        )

    async def dead_letters(self):
        page = await self.store.page(QueueName("requests", TYPE), Selection(oldest_first=True), limit=100)
        return page.items

    async def emptied(self):
        async with asyncio.timeout(5):
            while self.outbox.in_use:  # noqa: ASYNC110 - the outbox has no event for it
                await asyncio.sleep(0)


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(outbox_module, "_PAUSE", Backoff(initial_delay=0, max_delay=0))
    monkeypatch.setattr(outbox_module, "_LOOK_SECONDS", 0.001)
    made = []

    def make(**options):
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        await each.publisher.stop()
        if each.outbox is not None:
            await each.outbox.stop()


async def test_events_go_into_their_streams_together(bench):
    it = bench()
    ids = [str(number) for number in range(300)]
    assert await it.publish(*ids) == ["streamed"] * 300
    assert it.streams.taken == ids
    assert it.streams.batches == [128, 128, 44]
    assert it.counts == ["streamed"] * 300


async def test_a_short_trouble_is_no_trouble(bench):
    it = bench()
    answers = [StreamError("reset"), None]
    append = it.streams.append

    async def once(events):
        if answers.pop(0):
            raise StreamError("reset")
        return await append(events)

    publisher = Publisher(
        type("Streams", (), {"append": staticmethod(once)})(),
        bury=None,
        outbox=None,
        count=it.counts.append,
        retry=Retry(max_attempts=2, initial_delay=0),
    )
    assert await publisher.publish(TYPE, an_event("a")) == "streamed"
    await publisher.stop()


async def test_while_streams_are_away_events_wait_in_the_spool_and_leave_it_in_order(bench):
    it = bench()
    it.streams.down = True
    assert await it.publish("a", "b") == ["spooled"] * 2
    assert await it.publish("c") == ["spooled"]
    tries = len(it.streams.batches)
    assert [item.payload for item in it.spool.items] == [encode(TYPE, an_event(i)) for i in "abc"]
    it.streams.down = False
    await it.emptied()
    assert it.streams.taken == ["a", "b", "c"]
    assert it.spool.items == []
    assert await it.publish("d") == ["streamed"]
    assert it.streams.taken[-1] == "d"
    assert tries >= 2  # the first attempt and its retry
    assert it.counts == ["spooled"] * 3 + ["streamed"]


async def test_later_events_wait_behind_earlier_ones(bench):
    it = bench()
    it.streams.down = True
    await it.publish("a")
    it.streams.gate = asyncio.Event()  # what empties the spool hangs from now on
    it.streams.down = False
    assert await it.publish("b") == ["spooled"]
    it.streams.gate.set()
    await it.emptied()
    assert it.streams.taken == ["a", "b"]


async def test_without_streams_and_spool_an_event_becomes_a_dead_letter(bench):
    it = bench()
    it.streams.down = it.spool.broken = True
    assert await it.publish("a") == ["dead_lettered"]
    (record,) = await it.dead_letters()
    assert (record.origin.kind, record.reason) == ("stream", "stream_unavailable")
    assert record.error == "streams are away; the disk is gone"
    assert (record.data, record.event["id"], record.idempotency_key) == (b'{"id":1}', "a", "a")
    assert it.counts == ["dead_lettered"]


async def test_without_a_spool_at_all(bench):
    it = bench(with_outbox=False)
    it.streams.down = True
    assert await it.publish("a") == ["dead_lettered"]


async def test_an_open_circuit_asks_streams_no_more(bench):
    it = bench(with_outbox=False)
    it.streams.down = True
    for event_id in "abcde":
        await it.publish(event_id)
    assert len(it.streams.batches) == 3
    assert it.publisher.breaker.state == "open"
    errors = {record.event["id"]: record.error for record in await it.dead_letters()}
    assert errors["a"] == "streams are away"
    assert errors["e"].startswith("Circuit events is open")


async def test_where_nothing_takes_it_the_publisher_is_told(bench):
    it = bench()
    it.streams.down = it.spool.broken = True

    async def add(queue, record):
        raise DeadLetterStoreError("away too")

    it.store.add = add
    with pytest.raises(EventsUnavailableError, match="streams are away; the disk is gone; away too"):
        await it.publish("a")
    assert it.counts == ["refused"]


async def test_what_a_stream_will_never_take_becomes_a_dead_letter_at_once(bench):
    it = bench()
    it.streams.refused = {TYPE}
    (where, other) = await asyncio.gather(
        it.publisher.publish(TYPE, an_event("a")), it.publisher.publish("OTHER", an_event("b"))
    )
    assert (where, other) == ("dead_lettered", "streamed")
    (record,) = await it.dead_letters()
    assert record.reason == "stream_refused"


async def test_the_same_from_the_spool(bench):
    it = bench()
    it.streams.down = True
    await it.publish("a", "b")
    it.streams.refused = {TYPE}
    it.streams.down = False
    await it.emptied()
    assert [record.reason for record in await it.dead_letters()] == ["stream_refused"] * 2


async def test_what_cannot_be_read_in_the_spool_is_set_aside(bench):
    it = bench()
    it.streams.down = True
    await it.publish("a")
    await it.spool.append_many(QUEUE, [b"nonsense"])
    await it.publish("b")
    it.streams.down = False
    await it.emptied()
    assert it.spool.moved == [b"nonsense"]
    assert it.streams.taken == ["a", "b"]


async def test_a_spool_with_nothing_that_can_be_read(bench):
    it = bench()
    await it.spool.append_many(QUEUE, [b"nonsense"])
    await it.outbox.resume()
    await it.emptied()
    assert it.spool.moved == [b"nonsense"]
    assert it.streams.batches == []


async def test_what_an_earlier_process_has_left_is_published(bench):
    it = bench()
    await it.spool.append_many(QUEUE, [encode(TYPE, an_event("old"))])
    it.streams.gate = asyncio.Event()
    await it.outbox.resume()
    assert it.outbox.in_use
    assert "in use" in repr(it.publisher)
    assert await it.publish("new") == ["spooled"]
    it.streams.gate.set()
    await it.emptied()
    assert it.streams.taken == ["old", "new"]


async def test_an_empty_spool_holds_nobody_up(bench):
    it = bench()
    await it.outbox.resume()
    assert not it.outbox.in_use


async def test_one_process_empties_the_spool_and_the_others_wait_for_it(bench):
    it = bench()
    it.spool.leads = False
    it.streams.down = True
    await it.publish("a")
    it.streams.down = False
    assert await it.publish("b") == ["spooled"]
    assert it.streams.taken == []
    it.spool.items = []  # the one that leads has emptied it
    await it.emptied()
    assert await it.publish("c") == ["streamed"]


async def test_faults_of_ours_do_not_stop_the_emptying(bench):
    it = bench()
    it.streams.down = True
    await it.publish("a")
    append, faults = it.streams.append, [RuntimeError("bug")]

    async def faulty(events):
        if faults:
            raise faults.pop()
        return await append(events)

    it.streams.append = faulty
    it.streams.down = False
    await it.emptied()
    assert it.streams.taken == ["a"]


async def test_a_fault_of_ours_is_no_success(bench):
    it = bench()

    async def put(events):
        raise RuntimeError("bug")

    it.streams.down = True
    it.outbox.put = put
    with pytest.raises(EventsUnavailableError, match="bug"):
        await it.publish("a")
    it.streams.down = False
    assert await it.publish("b") == ["streamed"]


async def test_the_end_of_the_loop_leaves_nobody_waiting(bench):
    it = bench()
    it.streams.gate = asyncio.Event()
    publishing = asyncio.create_task(it.publisher.publish(TYPE, an_event("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    it.publisher._runner.cancel()
    with pytest.raises(EventsUnavailableError):
        await publishing


async def test_who_has_gone_away_loses_nothing(bench):
    it = bench()
    it.streams.gate = asyncio.Event()
    publishing = asyncio.create_task(it.publisher.publish(TYPE, an_event("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    publishing.cancel()
    it.streams.gate.set()
    await it.publisher.stop()
    assert it.streams.taken == ["a"]
    assert it.counts == ["streamed"]


async def test_no_more_than_can_wait(bench, monkeypatch):
    monkeypatch.setattr(publisher_module, "_MOST_WAITING", 2)
    it = bench()
    it.streams.gate = asyncio.Event()
    publishing = [asyncio.create_task(it.publisher.publish(TYPE, an_event(i))) for i in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(EventsUnavailableError, match="waiting"):
        await it.publisher.publish(TYPE, an_event("c"))
    it.streams.gate.set()
    assert await asyncio.gather(*publishing) == ["streamed"] * 2
