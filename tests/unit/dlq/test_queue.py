import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.errors import DeadLetterHeldError, DeadLetterNotFoundError, DeadLetterStoreError
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.queue import DeadLetterQueue
from sidecar.dlq.redis import RedisDeadLetterStore
from tests.unit.dlq.records import NOW, a_record

TYPE = "REQUEST_CREATED"
DAY = 86400.0


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
def dlq(clock):
    return DeadLetterQueue(queue_prefix="dlq:requests:", clock=clock)


async def test_what_failed_is_listed_taken_out_and_removed(dlq):
    stored = await dlq.enqueue(
        TYPE,
        {"destination": "Paris"},
        ValueError("no such city"),
        {"source_service": "requests-service", "correlation_id": "c-1"},
    )
    (listed,) = await dlq.list(TYPE)
    assert listed == stored
    assert (listed.error, listed.reason, listed.source_service, listed.correlation_id) == (
        "no such city",
        "ValueError",
        "requests-service",
        "c-1",
    )
    record = await dlq.dequeue(TYPE, listed.id)
    assert record.payload == {"destination": "Paris"}
    await dlq.remove(TYPE, record.id)
    assert len(await dlq.list(TYPE)) == 0


async def test_what_is_known_can_be_said_by_name(dlq):
    record = await dlq.enqueue(
        TYPE, b"\x00", "too late", correlation_id="c-2", trace_id="ab", reason="expired", source_service="s"
    )
    assert (record.data, record.error, record.reason, record.trace_id) == (
        b"\x00",
        "too late",
        "expired",
        "ab",
    )
    assert (record.source_service, record.correlation_id) == ("s", "c-2")


async def test_what_is_not_said_has_a_default(dlq):
    record = await dlq.enqueue(TYPE, None, "", {"correlation_id": ""})
    assert (record.reason, record.source_service, record.correlation_id) == ("error", "requests", "")
    assert (await dlq.enqueue(TYPE, None, KeyError())).error == "KeyError"


async def test_mistakes_of_the_caller(dlq):
    with pytest.raises(ValueError, match="an event type is"):
        await dlq.enqueue("NO SUCH:TYPE", {}, "error")
    with pytest.raises(ValueError, match="not 'correlationId'"):
        await dlq.enqueue(TYPE, {}, "error", {"correlationId": "c"})
    with pytest.raises(ValueError, match="limit is 1 to 1000"):
        await dlq.list(TYPE, limit=0)
    with pytest.raises(ValueError, match="is no cursor"):
        await dlq.list(TYPE, cursor="x")


@pytest.mark.parametrize("prefix", ["", "dlq", "dlq:", "dlq::", ":x:", "dlq:requests", "dlq:{a}:", "dlq:a}:"])
def test_malformed_prefixes(prefix):
    with pytest.raises(ValueError, match="queue_prefix is ROOT:SERVICE:"):
        DeadLetterQueue(queue_prefix=prefix)


@pytest.mark.parametrize("options", [{"max_age_days": 0}, {"lease_seconds": -1}])
def test_values_out_of_range(options):
    with pytest.raises(ValueError, match="must be above 0"):
        DeadLetterQueue(**options)


async def test_pages(dlq, clock):
    for number in range(5):
        clock.advance(1)
        await dlq.enqueue(TYPE, number, "error", correlation_id=f"c-{number % 2}")
    first = await dlq.list(TYPE, limit=3)
    second = await dlq.list(TYPE, limit=3, cursor=first.cursor)
    assert [record.payload for record in (*first, *second)] == [4, 3, 2, 1, 0]
    assert (first[0].payload, second.cursor) == (4, None)
    assert [record.payload for record in await dlq.list(TYPE, correlation_id="c-1")] == [3, 1]
    assert [record.payload for record in await dlq.list(TYPE, since=NOW + 4)] == [4, 3]
    assert [record.payload for record in await dlq.list(TYPE, since="2023-11-14T22:13:25Z")] == [4]


async def test_a_dequeued_record_belongs_to_one_queue(clock):
    store = MemoryDeadLetterStore(clock=clock)
    mine, theirs = (
        DeadLetterQueue(store=store, queue_prefix="dlq:requests:", clock=clock, lease_seconds=60)
        for _ in range(2)
    )
    record = await mine.enqueue(TYPE, 1, "error")
    await mine.dequeue(TYPE, record.id)
    await mine.dequeue(TYPE, record.id)
    with pytest.raises(DeadLetterHeldError):
        await theirs.dequeue(TYPE, record.id)
    with pytest.raises(DeadLetterHeldError):
        await theirs.remove(TYPE, record.id)
    await mine.release(TYPE, record.id, RuntimeError("again"))
    taken = await theirs.dequeue(TYPE, record.id)
    assert (taken.replay_count, [attempt.error for attempt in taken.attempts]) == (1, ["error", "again"])
    clock.advance(61)
    await mine.remove(TYPE, record.id)
    with pytest.raises(DeadLetterNotFoundError):
        await theirs.remove(TYPE, record.id)


async def test_records_are_kept_for_max_age_days(clock):
    dlq = DeadLetterQueue(max_age_days=2, clock=clock)
    await dlq.enqueue(TYPE, 1, "error")
    clock.advance(1.9 * DAY)
    assert len(await dlq.list(TYPE)) == 1
    clock.advance(0.2 * DAY)
    assert len(await dlq.list(TYPE)) == 0


async def test_a_url_means_redis():
    dlq = DeadLetterQueue(redis_url="redis://127.0.0.1:1", queue_prefix="dlq:requests:")
    assert isinstance(dlq._store, RedisDeadLetterStore)
    with pytest.raises(DeadLetterStoreError, match="cannot be reached"):
        await dlq.list(TYPE)
    await dlq.close()


async def test_a_full_memory_store_refuses(clock):
    store = MemoryDeadLetterStore(capacity=2, clock=clock)
    dlq = DeadLetterQueue(store=store, clock=clock)
    first = await dlq.enqueue(TYPE, 1, "error")
    await dlq.enqueue("OTHER", 2, "error")
    with pytest.raises(DeadLetterStoreError, match="full"):
        await dlq.enqueue(TYPE, 3, "error")
    await store.add(dlq._queue(TYPE), a_record(first.id))
    await dlq.remove(TYPE, first.id)
    await dlq.enqueue(TYPE, 3, "error")
    await dlq.close()
