import asyncio

import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.store import QueueName
from sidecar.events import figures as figures_module
from sidecar.events.figures import Figures
from sidecar.metrics.names import Metrics
from sidecar.metrics.registry import Registry
from tests.unit.dlq.records import NOW, a_record

OWN = ("requests", "REQUEST_CREATED")
DAY = 86_400.0


class Redis:
    """Answers from a table."""

    def __init__(self):
        self.answers = {}
        self.error = None
        self.hangs = False

    async def ask(self, key, *command):
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.answers[command[:2]]


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
def metrics():
    return Metrics(Registry(service="requests"), version="1")


def shown(metrics):
    depths = metrics.dlq_depth.read().samples
    ages = metrics.dlq_oldest_age_seconds.read().samples
    return {key: (depth, ages[key]) for key, depth in depths.items()}


async def test_nothing_before_the_store_is_used(metrics, clock):
    figures = Figures(metrics, None, lambda: None, clock)
    await figures.refresh(DAY)
    assert shown(metrics) == {}


async def test_figures_of_a_store_in_memory(metrics, clock):
    store = MemoryDeadLetterStore(clock=clock)
    figures = Figures(metrics, None, lambda: store, clock)
    await store.add(QueueName(*OWN), a_record("a"))
    clock.advance(10)
    await store.add(QueueName(*OWN), a_record("b", stored_at=NOW + 10))
    await figures.refresh(DAY)
    assert shown(metrics) == {OWN: (2, 10.0)}
    for record_id in "ab":
        await store.remove(QueueName(*OWN), a_record(record_id))
    await figures.refresh(DAY)
    assert shown(metrics) == {OWN: (0, 0.0)}


async def test_figures_of_redis(metrics, clock):
    redis = Redis()
    key, order = b"dlq:requests:REQUEST_CREATED", b"dlq-time:{dlq:requests:REQUEST_CREATED}"
    redis.answers = {
        (b"SMEMBERS", b"dlq:index"): [b"requests:REQUEST_CREATED"],
        (b"HLEN", key): 7,
        (b"ZCARD", order): 7,
        (b"ZCOUNT", order): 5,  # two are past their age
        (b"ZRANGEBYSCORE", order): [b"a", b"%d" % ((NOW - 60) * 1e6)],
    }
    figures = Figures(metrics, redis.ask, lambda: None, clock)
    await figures.refresh(DAY)
    assert shown(metrics) == {OWN: (5, 60.0)}
    redis.answers[b"ZRANGEBYSCORE", order] = []
    redis.answers[b"ZCARD", order] = redis.answers[b"ZCOUNT", order] = 0
    await figures.refresh(DAY)
    assert shown(metrics) == {OWN: (7, 0.0)}  # others have written them, and no time


async def test_trouble_leaves_the_figures_as_they_are(metrics, clock, monkeypatch, caplog):
    monkeypatch.setattr(figures_module, "_PATIENCE_SECONDS", 0.001)
    redis = Redis()
    redis.answers = {(b"SMEMBERS", b"dlq:index"): []}
    figures = Figures(metrics, redis.ask, lambda: None, clock)
    await figures.refresh(DAY)
    redis.error = OSError("refused")
    await figures.refresh(DAY)
    redis.hangs = True
    await figures.refresh(DAY)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert shown(metrics) == {}
