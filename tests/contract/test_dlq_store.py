"""One suite for every store of dead letters."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.connect import open_redis
from sidecar.dlq.errors import DeadLetterHeldError, DeadLetterNotFoundError
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.record import Attempt
from sidecar.dlq.redis import RedisDeadLetterStore
from sidecar.dlq.store import Position, QueueName, Selection
from tests.unit.dlq.records import NOW, a_record

SHORT = 0.05
DAY = 86400.0
NEWEST = Selection()
OLDEST = Selection(oldest_first=True)
numbers = itertools.count()


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
async def store(server, clock):
    if server is None:
        yield MemoryDeadLetterStore(clock=clock)
        return
    store = RedisDeadLetterStore(open_redis(server.url, timeout=5), root=f"dlq{next(numbers)}", clock=clock)
    yield store
    await store.close()


@pytest.fixture
def pass_time(server, clock):
    async def pass_time(seconds):
        clock.advance(seconds)
        if server is not None:  # its leases go by its own clock
            await asyncio.sleep(seconds)

    return pass_time


QUEUE = QueueName("requests", "REQUEST_CREATED")


async def fill(store, count, queue=QUEUE, **changes):
    records = [a_record(f"r-{n:03}", stored_at=NOW - count + n, **changes) for n in range(count)]
    for record in records:
        await store.add(queue, record)
    return records


async def ids(store, selection, *, limit, queue=QUEUE):
    """The ids of all records, page by page."""
    pages, after = [], None
    while True:
        page = await store.page(queue, selection, limit=limit, after=after)
        pages.append([record.id for record in page.items])
        if page.next is None:
            return pages
        after = Position.parse(str(page.next))


async def test_what_was_added_comes_back_whole(store):
    record = a_record(data=bytes(range(256)), attempts=(Attempt(at=NOW, error="no", status=422),))
    await store.add(QUEUE, record)
    assert await store.get(QUEUE, "r-1") == record
    assert (await store.page(QUEUE, NEWEST, limit=10)).items == (record,)


async def test_adding_twice_is_adding_once(store):
    await store.add(QUEUE, a_record())
    await store.add(QUEUE, a_record(error="later", stored_at=NOW + 5))
    assert [(s.depth, s.oldest_at) for s in await store.queues()] == [(1, NOW + 5)]
    assert (await store.get(QUEUE, "r-1")).error == "later"


async def test_what_is_not_there_is_not_found(store):
    record = a_record()
    for call in (
        store.get(QUEUE, "r-1"),
        store.lease(QUEUE, "r-1", "t", 1),
        store.keep(QUEUE, record, "t"),
        store.replace(QUEUE, record),
        store.remove(QUEUE, record),
    ):
        with pytest.raises(DeadLetterNotFoundError):
            await call


async def test_an_empty_queue_has_an_empty_page(store):
    page = await store.page(QUEUE, NEWEST, limit=10)
    assert (page.items, page.next) == ((), None)
    assert await store.count(QUEUE, NEWEST) == 0
    assert await store.queues() == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_are_newest_first_and_have_every_record_once(store, limit):
    records = await fill(store, 7)
    pages = await ids(store, NEWEST, limit=limit)
    assert [record_id for page in pages for record_id in page] == [record.id for record in reversed(records)]
    assert all(len(page) <= limit for page in pages)
    oldest = await ids(store, OLDEST, limit=limit)
    assert [record_id for page in oldest for record_id in page] == [record.id for record in records]


async def test_records_of_one_moment_are_told_apart(store):
    for n in range(5):
        await store.add(QUEUE, a_record(f"same-{n}"))
    assert await ids(store, NEWEST, limit=2) == [["same-4", "same-3"], ["same-2", "same-1"], ["same-0"]]
    assert await ids(store, OLDEST, limit=2) == [["same-0", "same-1"], ["same-2", "same-3"], ["same-4"]]


async def test_a_page_goes_on_where_its_place_was_removed(store):
    records = await fill(store, 6)
    first = await store.page(QUEUE, NEWEST, limit=3)
    await store.remove(QUEUE, records[3])
    second = await store.page(QUEUE, NEWEST, limit=3, after=first.next)
    assert [record.id for record in second.items] == ["r-002", "r-001", "r-000"]


async def test_filters(store):
    await fill(store, 6)
    await store.add(QUEUE, a_record("other", correlation_id="c-2", stored_at=NOW))
    assert await ids(store, Selection(correlation_id="c-2"), limit=10) == [["other"]]
    assert await ids(store, Selection(correlation_id="c-3"), limit=10) == [[]]
    assert await ids(store, Selection(since=NOW - 1), limit=10) == [["other", "r-005"]]
    assert await ids(store, Selection(until=NOW - 5), limit=10) == [["r-001", "r-000"]]
    both = Selection(correlation_id="c-1", since=NOW - 3, until=NOW - 2, oldest_first=True)
    assert await ids(store, both, limit=1) == [["r-003"], ["r-004"]]
    assert await store.count(QUEUE, both) == 2


async def test_removal(store):
    (record,) = await fill(store, 1)
    await store.remove(QUEUE, record)
    with pytest.raises(DeadLetterNotFoundError):
        await store.get(QUEUE, record.id)
    assert await store.queues() == []
    assert await store.names() == []
    assert (await store.page(QUEUE, Selection(correlation_id="c-1"), limit=1)).items == ()


async def test_one_retry_holds_a_record_and_the_second_is_told_so(store):
    (record,) = await fill(store, 1)
    assert await store.lease(QUEUE, record.id, "first", 60) == record
    assert (await store.get(QUEUE, record.id)).status == "retrying"
    assert (await store.page(QUEUE, NEWEST, limit=1)).items[0].status == "retrying"
    for call in (
        store.lease(QUEUE, record.id, "second", 60),
        store.keep(QUEUE, record, "second"),
        store.replace(QUEUE, record),
        store.remove(QUEUE, record),
        store.remove(QUEUE, record, "second"),
    ):
        with pytest.raises(DeadLetterHeldError):
            await call
    await store.remove(QUEUE, record, "first")
    assert await store.queues() == []


async def test_of_many_retries_at_once_one_gets_the_lease(store):
    (record,) = await fill(store, 1)
    answers = await asyncio.gather(
        *(store.lease(QUEUE, record.id, f"token-{n}", 60) for n in range(20)), return_exceptions=True
    )
    assert sum(1 for answer in answers if answer == record) == 1
    assert sum(1 for answer in answers if isinstance(answer, DeadLetterHeldError)) == 19


async def test_a_lease_can_be_taken_again_by_its_own_token(store):
    (record,) = await fill(store, 1)
    await store.lease(QUEUE, record.id, "mine", 60)
    assert await store.lease(QUEUE, record.id, "mine", 60) == record


async def test_a_lease_ends(store, pass_time):
    (record,) = await fill(store, 1)
    await store.lease(QUEUE, record.id, "first", SHORT)
    await pass_time(2 * SHORT)
    assert (await store.get(QUEUE, record.id)).status == "pending"
    await store.lease(QUEUE, record.id, "second", 60)
    with pytest.raises(DeadLetterHeldError):
        await store.remove(QUEUE, record, "first")


async def test_a_failed_retry_is_kept_and_free_again(store):
    (record,) = await fill(store, 1)
    await store.lease(QUEUE, record.id, "first", 60)
    failed = record.failed_again(Attempt(at=NOW + 9, error="still no", status=500, by="ann", reason="try"))
    await store.keep(QUEUE, failed, "first")
    assert await store.get(QUEUE, record.id) == failed
    await store.lease(QUEUE, record.id, "second", 60)


async def test_a_changed_record_keeps_its_place(store):
    records = await fill(store, 3)
    await store.replace(QUEUE, replace(records[1], data=b'{"id":2}'))
    assert await ids(store, NEWEST, limit=10) == [["r-002", "r-001", "r-000"]]
    assert (await store.get(QUEUE, "r-001")).payload == {"id": 2}


async def test_records_are_gone_past_their_age(store, clock):
    await store.add(QUEUE, a_record("old", stored_at=NOW - 29 * DAY))
    await store.add(QUEUE, a_record("new", stored_at=NOW))
    clock.advance(2 * DAY)
    with pytest.raises(DeadLetterNotFoundError):
        await store.get(QUEUE, "old")
    assert await store.count(QUEUE, Selection(correlation_id="c-1")) == 1
    assert await ids(store, NEWEST, limit=10) == [["new"]]
    assert await ids(store, Selection(correlation_id="c-1"), limit=10) == [["new"]]
    assert [(summary.depth, summary.oldest_at) for summary in await store.queues()] == [(1, NOW)]
    clock.advance(40 * DAY)
    assert await store.queues() == []
    with pytest.raises(DeadLetterNotFoundError):
        await store.get(QUEUE, "new")


async def test_queues_are_told_apart(store):
    others = [QueueName("billing", "REQUEST_CREATED"), QueueName("requests", "REQUEST_DELETED")]
    await fill(store, 2)
    for queue in others:
        await store.add(queue, a_record("r-000"))
    summaries = {summary.name: summary.depth for summary in await store.queues()}
    assert summaries == {others[0]: 1, QUEUE: 2, others[1]: 1}
    assert await store.names() == sorted([QUEUE, *others])
    await store.remove(others[0], a_record("r-000"))
    assert (await store.get(QUEUE, "r-000")).id == "r-000"


async def test_ids_and_correlation_ids_of_any_kind(store):
    strange = 'ü "{x}" \\ : % \n ' + "x" * 300
    await store.add(QUEUE, a_record(strange, correlation_id=strange))
    assert await ids(store, Selection(correlation_id=strange), limit=1) == [[strange]]
    page = await store.page(QUEUE, NEWEST, limit=1)
    assert page.items[0].id == strange
    await store.remove(QUEUE, await store.get(QUEUE, strange))
