import logging

import pytest

from sidecar.clock import ManualClock
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.core import Loss, State
from sidecar.idempotency.memory import MemoryIdempotencyStore
from sidecar.idempotency.record import Response
from sidecar.idempotency.store import Granted, Settled, StoreError


def claim(number, **changes):
    return Claim(f"{number:064x}", b"t" * 16, b"f", "route", "c", 10.0, 100.0).replace(**changes)


@pytest.fixture
def clock():
    return ManualClock()


async def complete(store, number, body=b""):
    await store.claim(claim(number))
    await store.complete(claim(number), Response(200, (), body))


async def test_the_record_settled_first_gives_way(clock):
    evicted = []
    store = MemoryIdempotencyStore(
        clock=clock, max_records=3, on_evict=lambda record_id, what: evicted.append((record_id, what))
    )
    await store.claim(claim(1))
    await complete(store, 3)
    await complete(store, 2)
    assert await store.claim(claim(4)) is Granted.FRESH
    assert evicted == [(claim(3).record_id, "record")]
    assert (await store.get(claim(1).record_id)).state is State.EXECUTING


async def test_what_executes_or_is_unknown_never_gives_way(clock):
    store = MemoryIdempotencyStore(clock=clock, max_records=2)
    await store.claim(claim(1))
    await store.claim(claim(2))
    await store.mark_unknown(claim(2), Loss.RESET)
    with pytest.raises(StoreError) as caught:
        await store.claim(claim(3))
    assert caught.value.reason == "full"
    assert not caught.value.maybe_done
    clock.advance(110.0)
    assert await store.claim(claim(3)) is Granted.FRESH


async def test_a_freed_key_may_give_way(clock):
    store = MemoryIdempotencyStore(clock=clock, max_records=1)
    await store.claim(claim(1))
    await store.mark_unknown(claim(1), Loss.RESET)
    await store.free(claim(1).record_id)
    assert await store.claim(claim(2)) is Granted.FRESH


async def test_the_oldest_bodies_are_dropped_and_their_records_stay(clock):
    evicted = []
    store = MemoryIdempotencyStore(
        clock=clock, max_body_bytes=10, on_evict=lambda *what: evicted.append(what)
    )
    for number in (1, 2, 3):
        await complete(store, number, b"1234")
    assert evicted == [(claim(1).record_id, "body")]
    assert (await store.get(claim(1).record_id)).response == Response(200, (), None)
    assert (await store.get(claim(2).record_id)).response.body == b"1234"
    clock.advance(110.0)
    await complete(store, 4, b"1234567890")
    assert len(evicted) == 1


async def test_evictions_are_logged_with_counts_at_most_once_a_minute(clock, caplog):
    caplog.set_level(logging.WARNING)
    store = MemoryIdempotencyStore(clock=clock, max_records=1)
    for number in range(5):
        await complete(store, number)
    clock.advance(60.0)
    await complete(store, 9)
    assert [record.getMessage() for record in caplog.records] == [
        "idempotency memory store is full: evicted 1 records and 0 bodies so far",
        "idempotency memory store is full: evicted 5 records and 0 bodies so far",
    ]


async def test_what_has_expired_is_dropped_without_being_asked_for(clock):
    store = MemoryIdempotencyStore(clock=clock)
    for number in range(10):
        await complete(store, number)
    await store.claim(claim(10))
    clock.advance(9.0)
    await store.renew([claim(10)])
    clock.advance(101.0)
    await store.claim(claim(11))
    assert len(store) == 2


async def test_a_renewed_record_outlives_its_first_expiry(clock):
    store = MemoryIdempotencyStore(clock=clock)
    await store.claim(claim(1))
    for _ in range(30):
        clock.advance(5.0)
        assert await store.renew([claim(1)]) == [Settled.DONE]
        await store.claim(claim(2))
        await store.release(claim(2))
    assert len(store) == 1


async def test_released_keys_do_not_pile_up(clock):
    store = MemoryIdempotencyStore(clock=clock)
    for number in range(3_000):
        await store.claim(claim(number))
        await store.release(claim(number))
    assert len(store._expiry) < 1_100


async def test_closing_forgets_everything(clock):
    store = MemoryIdempotencyStore(clock=clock)
    await complete(store, 1, b"body")
    await store.aclose()
    assert len(store) == 0


async def test_times_are_those_of_the_wall_clock(clock):
    store = MemoryIdempotencyStore(clock=clock)
    started = clock.wall()
    clock.advance(1.0)
    await store.claim(claim(1))
    clock.advance(2.0)
    record = await store.get(claim(1).record_id)
    assert (record.created_at, record.lease_until, record.settled_at) == (started + 1, started + 11, None)
    clock.advance(20.0)
    record = await store.get(claim(1).record_id)
    assert (record.created_at, record.lease_until, record.settled_at) == (started + 1, None, started + 11)


async def test_a_record_tells_the_same_times_at_every_look(clock):
    store = MemoryIdempotencyStore(clock=clock)
    await complete(store, 1)
    before = await store.get(claim(1).record_id)
    clock._wall += 0.0007  # the clocks are never read at exactly the same moment
    after = await store.get(claim(1).record_id)
    assert (after.created_at, after.settled_at) == (before.created_at, before.settled_at)
