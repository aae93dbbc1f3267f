"""One suite for every kind of stream."""

import asyncio
import itertools

import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.record import Attempt
from sidecar.events.cloudevents import Publication, event_of
from sidecar.events.memory import MemoryStreams
from sidecar.events.stream import StreamError
from sidecar.events.streams import RedisStreams

SHORT = 0.03
GROUP = "requests"
PATHS = ("/hooks/a", "/hooks/b")
NOW = 1_700_000_000.0
numbers = itertools.count()


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
async def streams(server, clock):
    streams = MemoryStreams(clock=clock) if server is None else RedisStreams(server.url, timeout=5)
    yield streams
    await streams.close()


@pytest.fixture
def pass_time(server, clock):
    async def pass_time(seconds):
        clock.advance(seconds)
        if server is not None:  # it has a clock of its own
            await asyncio.sleep(seconds + 0.01)

    return pass_time


@pytest.fixture
def event_type():
    return f"TYPE_{next(numbers)}"


@pytest.fixture
async def consumers(streams, event_type):
    consumers = [streams.consumer(event_type, GROUP, PATHS) for _ in range(2)]
    for consumer in consumers:
        await consumer.open()
    return consumers


def an_event(event_type, number):
    return event_of(
        Publication(event_type=event_type, service="s", now=NOW, correlation_id="c-1"),
        b'{"n":%d, "raw":1.10}' % number,
        event_id=f"e-{number}",
    )


async def publish(streams, event_type, *numbers):
    assert await streams.append([(event_type, an_event(event_type, n)) for n in numbers]) == [None] * len(
        numbers
    )


def ids(entries):
    return [entry.event.id for entry in entries]


async def test_events_come_out_as_they_went_in_and_in_order(streams, event_type, consumers):
    await publish(streams, event_type, *range(5))
    entries = await consumers[0].read(3, 0)
    assert [entry.event for entry in entries] == [an_event(event_type, n) for n in range(3)]
    assert all(not entry.attempts and not entry.lost_by for entry in entries)
    assert ids(await consumers[1].read(10, 0)) == ["e-3", "e-4"]
    assert await consumers[0].read(10, 0) == []


async def test_a_new_group_begins_with_the_oldest_event(streams, event_type):
    await publish(streams, event_type, 1)
    consumer = streams.consumer(event_type, GROUP, PATHS)
    await consumer.open()
    assert ids(await consumer.read(10, 0)) == ["e-1"]


async def test_every_group_gets_every_event(streams, event_type, consumers):
    other = streams.consumer(event_type, "billing", PATHS)
    await other.open()
    await publish(streams, event_type, 1)
    assert ids(await consumers[0].read(10, 0)) == ids(await other.read(10, 0)) == ["e-1"]


async def test_types_are_told_apart(streams, event_type, consumers):
    other = f"{event_type}_OTHER"
    await streams.append([(event_type, an_event(event_type, 1)), (other, an_event(other, 2))])
    assert ids(await consumers[0].read(10, 0)) == ["e-1"]


async def test_reading_waits_for_the_first_event(streams, event_type, consumers):
    reading = asyncio.create_task(consumers[0].read(10, 5))
    await asyncio.sleep(SHORT)
    await publish(streams, event_type, 1)
    assert ids(await reading) == ["e-1"]
    assert await consumers[0].read(10, SHORT) == []


async def test_what_is_acknowledged_is_done(streams, event_type, consumers, pass_time):
    await publish(streams, event_type, 1, 2)
    entries = await consumers[0].read(10, 0)
    assert (await consumers[0].backlog()).pending == 2
    await consumers[0].acknowledge([entries[0].id])
    await consumers[0].acknowledge([entries[0].id])
    await pass_time(SHORT)
    assert ids(await consumers[1].take_over(SHORT / 2, 10)) == ["e-2"]
    assert (await consumers[0].backlog()).pending == 1


async def test_a_backlog(streams, event_type, consumers):
    await publish(streams, event_type, 1, 2, 3)
    await consumers[0].read(1, 0)
    backlog = await consumers[1].backlog()
    assert backlog.lag in (2, None)
    assert backlog.pending == 1


async def test_what_a_dead_consumer_held_is_taken_over_oldest_first(
    streams, event_type, consumers, pass_time
):
    await publish(streams, event_type, 1, 2, 3)
    await consumers[0].read(10, 0)
    await pass_time(SHORT)
    taken = await consumers[1].take_over(SHORT / 2, 2)
    assert ids(taken) == ["e-1", "e-2"]
    assert [entry.lost_by for entry in taken] == [consumers[0].name] * 2
    assert [entry.event for entry in taken] == [an_event(event_type, 1), an_event(event_type, 2)]
    assert ids(await consumers[1].take_over(SHORT / 2, 2)) == ["e-3"]


async def test_what_is_renewed_is_not_taken_over(streams, event_type, consumers, pass_time):
    await publish(streams, event_type, 1, 2)
    entries = await consumers[0].read(10, 0)
    await pass_time(0.2)
    assert await consumers[0].renew([entries[1].id]) == []
    assert ids(await consumers[1].take_over(0.15, 10)) == ["e-1"]
    assert await consumers[0].renew([entry.id for entry in entries]) == [entries[0].id]


async def test_of_many_takers_one_gets_an_event(streams, event_type, consumers, pass_time):
    await publish(streams, event_type, *range(20))
    await consumers[0].read(20, 0)
    await pass_time(0.1)
    others = [streams.consumer(event_type, GROUP, PATHS) for _ in range(5)]
    taken = await asyncio.gather(*(other.take_over(0.1, 20) for other in others))
    assert sorted(itertools.chain(*map(ids, taken))) == sorted(f"e-{n}" for n in range(20))


async def test_what_is_released_is_free_at_once_and_nobody_vanished(streams, event_type, consumers):
    await publish(streams, event_type, 1, 2)
    entries = await consumers[0].read(10, 0)
    await consumers[0].acknowledge([entries[0].id])
    await consumers[0].release()
    (taken,) = await consumers[1].take_over(30, 10)
    assert (taken.event.id, taken.lost_by) == ("e-2", "")


async def test_attempts_are_handed_on(streams, event_type, consumers, pass_time):
    attempts = (
        Attempt(at=NOW, error="503", status=503, duration=0.5),
        Attempt(at=NOW, error="x", spent=False),
    )
    await publish(streams, event_type, 1, 2)
    entries = await consumers[0].read(10, 0)
    await consumers[0].note(entries[0].id, "/hooks/b", attempts[:1])
    await consumers[0].note(entries[0].id, "/hooks/b", attempts)
    await pass_time(SHORT)
    first, second = await consumers[1].take_over(SHORT / 2, 10)
    assert first.attempts == {"/hooks/b": attempts}
    assert second.attempts == {}
    await consumers[1].acknowledge([first.id, second.id])


async def test_one_consumer_leads(streams, event_type, consumers, pass_time):
    first, second = consumers
    assert await first.lead(0.2)
    assert await first.lead(0.2)
    assert not await second.lead(0.2)
    await second.resign()
    assert not await second.lead(0.2)
    await first.resign()
    assert await second.lead(0.2)
    await pass_time(0.25)
    assert await first.lead(5)
    assert not await second.lead(5)


async def test_a_leader_takes_all_that_is_held(streams, event_type, consumers):
    await publish(streams, event_type, 1, 2)
    await consumers[0].read(10, 0)
    assert ids(await consumers[1].take_over(0, 10)) == ["e-1", "e-2"]


async def test_what_every_group_has_done_is_trimmed(streams, event_type, consumers, server):
    other = streams.consumer(event_type, "billing", PATHS)
    await other.open()
    await publish(streams, event_type, *range(500))
    for consumer in (consumers[0], other):
        entries = await consumer.read(500, 0)
        await consumer.acknowledge([entry.id for entry in entries[:-1]])
        await consumer.sweep()
    late = streams.consumer(event_type, "late", PATHS)
    await late.open()
    left = ids(await late.read(1000, 0))
    assert left[-1] == "e-499"
    assert len(left) <= 200  # Redis trims whole nodes of 100 entries


async def test_sweeping_loses_nothing_that_is_wanted(streams, event_type, consumers):
    other = streams.consumer(event_type, "billing", PATHS)
    await other.open()
    await publish(streams, event_type, *range(300))
    entries = await consumers[0].read(500, 0)
    await consumers[0].acknowledge([entry.id for entry in entries])
    held = await other.read(250, 0)
    await other.acknowledge([entry.id for entry in held[1:]])
    await consumers[0].sweep()
    assert len(await other.read(500, 0)) == 50
    assert ids(await other.take_over(0, 1)) == ["e-0"]


async def test_streams_that_are_gone(tmp_path):
    streams = RedisStreams("redis://127.0.0.1:1", timeout=0.2)
    consumer = streams.consumer("T", GROUP, PATHS)
    for call in (
        streams.append([("T", an_event("T", 1))]),
        consumer.open(),
        consumer.read(1, 0),
        consumer.acknowledge(["1-0"]),
        consumer.note("1-0", "/hooks/a", ()),
        consumer.renew(["1-0"]),
        consumer.take_over(1, 1),
        consumer.release(),
        consumer.lead(1),
        consumer.sweep(),
        consumer.backlog(),
    ):
        with pytest.raises(StreamError):
            await call
    await streams.close()
