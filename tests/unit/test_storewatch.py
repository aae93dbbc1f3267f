from __future__ import annotations

import asyncio

import pytest

from sidecar import storewatch
from sidecar.clock import ManualClock
from sidecar.idempotency.memory import MemoryIdempotencyStore
from sidecar.idempotency.policy import RoutePolicy
from sidecar.idempotency.store import StoreError
from sidecar.storewatch import FRESH, StoreWatch, requires_store

DOWN = StoreError("connection refused", reason="refused", maybe_done=False)


class Store:
    """Counts looks, and is as well as the test says."""

    def __init__(self):
        self.looks = 0
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.advice = ["appendonly is no"]

    async def check(self):
        self.looks += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error

    async def weaknesses(self):
        await self.check()
        return self.advice


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields["message"]))


@pytest.fixture
async def store():
    return Store()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def watch(store, clock):
    return StoreWatch(store, patience=1.0, clock=clock)


async def test_what_was_seen_is_true_for_a_second(watch, store, clock):
    assert await watch.problem() == ""
    store.error = DOWN
    clock.advance(FRESH * 0.9)
    assert await watch.problem() == ""
    clock.advance(FRESH * 0.1)
    assert await watch.problem() == "connection refused"
    store.error = None
    assert await watch.problem() == "connection refused"
    clock.advance(FRESH)
    assert await watch.problem() == ""
    assert store.looks == 3


async def test_many_who_ask_at_once_share_one_look(watch, store):
    store.answers.clear()
    asking = [asyncio.create_task(watch.problem()) for _ in range(20)]
    await asyncio.sleep(0)
    store.answers.set()
    assert await asyncio.gather(*asking) == [""] * 20
    assert store.looks == 1


async def test_one_who_gives_up_does_not_spoil_it_for_the_others(watch, store):
    store.answers.clear()
    first, second = asyncio.create_task(watch.problem()), asyncio.create_task(watch.problem())
    await asyncio.sleep(0)
    first.cancel()
    store.answers.set()
    assert await second == ""


async def test_a_silent_store_is_down(store, clock):
    store.answers.clear()
    watch = StoreWatch(store, patience=0.001, clock=clock)
    assert await watch.problem() == "the store has been silent for 0.001 s"


async def test_weaknesses_are_told_once(watch, store):
    log = Log()
    await watch.advise(log)
    assert log.lines == [("store", "appendonly is no")]


async def test_a_store_that_is_away_is_asked_again(watch, store, monkeypatch):
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 8:
            store.error = None

    monkeypatch.setattr(storewatch.asyncio, "sleep", pause)
    store.error, log = DOWN, Log()
    await watch.advise(log)
    assert log.lines == [("store unreachable", "connection refused"), ("store", "appendonly is no")]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_the_memory_store_is_a_weakness_of_its_own():
    log = Log()
    await StoreWatch(MemoryIdempotencyStore(), patience=1.0).advise(log)
    ((event, message),) = log.lines
    assert event == "store"
    assert "restart" in message


@pytest.mark.parametrize(
    ("changes", "required"),
    [
        ([{}], True),
        ([{"store_open": True}], False),
        ([{"enabled": False}], False),
        ([{"enabled": False}, {}], True),
    ],
)
def test_the_store_is_required_where_a_route_fails_closed(changes, required):
    policies = [RoutePolicy(service="shop", route=f"r{n}", **it) for n, it in enumerate(changes)]
    assert requires_store(policies) == required
