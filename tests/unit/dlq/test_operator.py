import asyncio
import logging

import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.errors import (
    DeadLetterHeldError,
    DeadLetterNotFoundError,
    DeadLetterStoreError,
    DeadLetterUnreadableError,
    RedeliveryError,
)
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.operator import Operator
from sidecar.dlq.store import QueueName, Selection
from tests.unit.dlq.records import NOW, a_record

TYPE = "REQUEST_CREATED"
OWN = QueueName("requests", TYPE)
OTHER = QueueName("billing", TYPE)
WHY = {"by": "ann", "reason": "fixed"}


class Receiver:
    """Where records are sent to: takes note, and fails as told."""

    def __init__(self):
        self.received = []
        self.failures = {}
        self.reached = asyncio.Event()
        self.gate = None

    async def __call__(self, record):
        self.received.append(record)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if record.id in self.failures:
            raise self.failures[record.id]


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
def store(clock):
    return MemoryDeadLetterStore(clock=clock)


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def operator(store, receiver, clock):
    return Operator(store, service="requests", redeliver=receiver, clock=clock)


async def fill(store, *record_ids, queue=OWN):
    for record_id in record_ids:
        await store.add(queue, a_record(record_id, stored_at=NOW - 1000 + int(record_id.rpartition("-")[2])))


async def outcomes(operator, selection=None, **options):
    found = operator.retry_many(TYPE, selection or Selection(), **WHY, **options)
    return [(outcome.record_id, outcome.result) async for outcome in found]


async def test_a_retry_that_succeeds_removes_the_record(operator, store, receiver):
    await fill(store, "r-1")
    await operator.retry(TYPE, "r-1", **WHY)
    assert [record.idempotency_key for record in receiver.received] == ["r-1"]
    assert await operator.queues() == []


async def test_a_retry_that_fails_keeps_the_record_with_the_attempt(operator, store, receiver):
    await fill(store, "r-1")
    receiver.failures["r-1"] = RedeliveryError("422 from app", status=422)
    with pytest.raises(RedeliveryError):
        await operator.retry(TYPE, "r-1", **WHY)
    record = await operator.get(TYPE, "r-1")
    (attempt,) = record.attempts
    assert (attempt.error, attempt.status, attempt.by, attempt.reason) == (
        "422 from app",
        422,
        "ann",
        "fixed",
    )
    assert (record.replay_count, record.status) == (1, "pending")


async def test_two_operators_at_once_make_one_delivery(operator, store, receiver):
    await fill(store, "r-1")
    receiver.gate = asyncio.Event()
    first = asyncio.create_task(operator.retry(TYPE, "r-1", **WHY))
    await receiver.reached.wait()
    for call in (
        operator.retry(TYPE, "r-1", **WHY),
        operator.edit(TYPE, "r-1", {}, **WHY),
        operator.remove(TYPE, "r-1"),
    ):
        with pytest.raises(DeadLetterHeldError):
            await call
    receiver.gate.set()
    await first
    assert len(receiver.received) == 1


async def test_a_retry_cut_short_frees_the_record_and_counts_for_nothing(operator, store, receiver):
    await fill(store, "r-1")
    receiver.gate = asyncio.Event()
    retry = asyncio.create_task(operator.retry(TYPE, "r-1", **WHY))
    await receiver.reached.wait()
    retry.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retry
    record = await operator.get(TYPE, "r-1")
    assert (record.status, record.attempts, record.replay_count) == ("pending", (), 0)


async def test_a_record_that_somebody_removed_meanwhile_is_delivered_all_the_same(operator, store, receiver):
    await fill(store, "r-1")

    async def removed_meanwhile(record):
        held = store._queues[OWN]
        held.drop(record.id)

    operator._redeliver = removed_meanwhile
    await operator.retry(TYPE, "r-1", **WHY)


async def test_unknown_records(operator):
    for call in (
        operator.get(TYPE, "r-1"),
        operator.retry(TYPE, "r-1", **WHY),
        operator.edit(TYPE, "r-1", {}, **WHY),
        operator.remove(TYPE, "r-1"),
    ):
        with pytest.raises(DeadLetterNotFoundError, match="r-1"):
            await call


async def test_a_record_of_a_newer_version_is_only_shown_and_removed(operator, store, receiver):
    await fill(store, "r-1")
    store._queues[OWN].values["r-1"] = b'{"v":2}'
    assert (await operator.get(TYPE, "r-1")).status == "unreadable"
    for call in (operator.retry(TYPE, "r-1", **WHY), operator.edit(TYPE, "r-1", {}, **WHY)):
        with pytest.raises(DeadLetterUnreadableError):
            await call
    assert await outcomes(operator) == [("r-1", "unreadable")]
    assert receiver.received == []
    await operator.remove(TYPE, "r-1")
    assert await operator.queues() == []


async def test_an_edited_copy_takes_its_place(operator, store, receiver):
    await fill(store, "r-1")
    edited = await operator.edit(TYPE, "r-1", {"id": 2}, **WHY)
    assert await operator.get(TYPE, "r-1") == edited
    assert (edited.id, edited.payload) == ("r-1", {"id": 2})
    assert edited.idempotency_key != "r-1"
    assert [(edit.by, edit.reason, edit.replaced_key) for edit in edited.edits] == [("ann", "fixed", "r-1")]
    await operator.retry(TYPE, "r-1", **WHY)
    assert [record.idempotency_key for record in receiver.received] == [edited.idempotency_key]


async def test_many_are_retried_oldest_first(operator, store, receiver):
    await fill(store, "r-3", "r-1", "r-2")
    assert await outcomes(operator) == [("r-1", "delivered"), ("r-2", "delivered"), ("r-3", "delivered")]
    assert [record.id for record in receiver.received] == ["r-1", "r-2", "r-3"]


async def test_more_than_a_batch(operator, store):
    await fill(store, *(f"r-{n}" for n in range(1, 251)))
    assert len(await outcomes(operator)) == 250
    assert await operator.queues() == []


async def test_one_failure_does_not_stop_the_others(operator, store, receiver, caplog):
    caplog.set_level(logging.INFO)
    await fill(store, "r-1", "r-2", "r-3")
    receiver.failures["r-2"] = RedeliveryError("no", status=422)
    await store.lease(OWN, "r-3", "someone", 60)
    assert await outcomes(operator) == [("r-1", "delivered"), ("r-2", "failed"), ("r-3", "held")]
    assert (await operator.get(TYPE, "r-2")).replay_count == 1
    assert [line.getMessage() for line in caplog.records] == [
        f"dead letter r-{number} in requests:REQUEST_CREATED: {result} in a retry of many by ann: fixed"
        for number, result in ((1, "delivered"), (2, "failed"), (3, "held"))
    ]


async def test_behind_an_open_breaker_the_rest_is_left_alone(operator, store, receiver):
    await fill(store, "r-1", "r-2", "r-3")
    receiver.failures["r-2"] = RedeliveryError("circuit open", upstream_down=True)
    assert await outcomes(operator) == [("r-1", "delivered"), ("r-2", "failed")]
    assert (await operator.get(TYPE, "r-3")).replay_count == 0


async def test_a_dead_store_ends_it(operator, store, receiver, monkeypatch):
    await fill(store, "r-1", "r-2")

    async def down(*_):
        raise DeadLetterStoreError("down")

    monkeypatch.setattr(store, "lease", down)
    assert await outcomes(operator) == [("r-1", "failed")]


async def test_a_record_that_goes_in_between(operator, store, receiver):
    await fill(store, "r-1", "r-2")
    found = operator.retry_many(TYPE, Selection(), **WHY)
    first = await anext(found)
    await store.remove(OWN, a_record("r-2"))
    assert (first.result, (await anext(found)).result) == ("delivered", "gone")


async def test_a_dry_run_touches_nothing(operator, store, receiver):
    await fill(store, "r-1", "r-2", "r-3")
    assert await outcomes(operator, dry_run=True, limit=2) == [("r-1", "would_retry"), ("r-2", "would_retry")]
    assert receiver.received == []
    assert await operator.count(TYPE, Selection()) == 3


async def test_what_comes_during_a_retry_of_many_is_left_for_the_next(operator, store, receiver, clock):
    await fill(store, "r-1")
    receiver.failures["r-1"] = RedeliveryError("no")
    found = operator.retry_many(TYPE, Selection(), **WHY)
    await anext(found)
    await store.add(OWN, a_record("late", stored_at=NOW + 1))
    assert [outcome async for outcome in found] == []


async def test_filters_and_an_end_of_time(operator, store):
    await fill(store, "r-1", "r-2", "r-3")
    assert await outcomes(operator, Selection(until=NOW - 998)) == [
        ("r-1", "delivered"),
        ("r-2", "delivered"),
    ]
    assert await outcomes(operator, Selection(correlation_id="other")) == []


async def test_pages_of_several_services_are_one_listing(operator, store):
    await fill(store, "r-1", "r-4", "r-5")
    await fill(store, "o-2", "o-3", "o-6", queue=OTHER)
    seen, cursor = [], None
    while True:
        page = await operator.page(TYPE, Selection(), limit=2, cursor=cursor)
        seen += [record.id for record in page.items]
        if page.next is None:
            break
        cursor = str(page.next)
    assert seen == ["o-6", "r-5", "r-4", "o-3", "o-2", "r-1"]
    page = await operator.page(TYPE, Selection(oldest_first=True), limit=3)
    assert [record.id for record in page.items] == ["r-1", "o-2", "o-3"]


async def test_one_service_of_several(operator, store):
    await fill(store, "r-1")
    await fill(store, "o-2", queue=OTHER)
    page = await operator.page(TYPE, Selection(), service="billing")
    assert [record.id for record in page.items] == ["o-2"]
    assert (await operator.get(TYPE, "o-2")).id == "o-2"
    with pytest.raises(DeadLetterNotFoundError):
        await operator.get(TYPE, "o-2", service="requests")
    assert await operator.count(TYPE, Selection(), service="billing") == 1
    await operator.remove(TYPE, "o-2", service="billing")


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_limits(operator, limit):
    with pytest.raises(ValueError, match="limit is 1 to 1000"):
        await operator.page(TYPE, Selection(), limit=limit)


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", ".a", "-1.a", "1" * 17 + ".a", "²..a"])
async def test_cursors_that_were_not_given_out(operator, cursor):
    with pytest.raises(ValueError, match="is no cursor"):
        await operator.page(TYPE, Selection(), cursor=cursor)


async def test_a_lease_is_renewed_while_a_retry_takes_long(operator, store, receiver, monkeypatch):
    """The renewal runs by the loop's clock; a short lease makes it run at once."""
    monkeypatch.setattr("sidecar.dlq.operator.DEFAULT_LEASE", 0.003)
    await fill(store, "r-1")
    receiver.gate = asyncio.Event()
    tokens = []
    lease = store.lease

    async def counted(queue, record_id, token, seconds):
        tokens.append(token)
        if len(tokens) == 3:
            receiver.gate.set()
        return await lease(queue, record_id, token, seconds)

    monkeypatch.setattr(store, "lease", counted)
    await operator.retry(TYPE, "r-1", **WHY)
    assert len(set(tokens)) == 1
