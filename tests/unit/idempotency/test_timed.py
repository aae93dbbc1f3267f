import pytest

from sidecar.clock import ManualClock
from sidecar.idempotency.core import Loss, Response, State
from sidecar.idempotency.memory import MemoryStore
from sidecar.idempotency.store import Claim, Granted, Settled, StoreError
from sidecar.idempotency.timed import TimedStore

CLAIM = Claim("0" * 64, b"t" * 16, b"f", "route", "c", 10.0, 100.0)


async def test_every_operation_is_passed_on_and_timed():
    clock, seen = ManualClock(), []
    inner = MemoryStore(clock=clock)
    store = TimedStore(inner, lambda *what: seen.append(what), clock)
    assert await store.claim(CLAIM) is Granted.FRESH
    assert await store.renew([CLAIM]) == [Settled.DONE]
    assert await store.amend(CLAIM) is Settled.DONE
    assert await store.mark_unknown(CLAIM, Loss.RESET) is Settled.DONE
    assert await store.resolve(CLAIM.record_id, Response(200, (), b""), 10.0) is Settled.DONE
    assert await store.complete(CLAIM, Response(200, (), b"")) is Settled.DONE
    assert await store.release(CLAIM) is Settled.LOST
    assert await store.free(CLAIM.record_id) is Settled.LOST
    assert (await store.get(CLAIM.record_id)).state is State.COMPLETED
    assert len((await store.page()).items) == 1
    with await store.watch(CLAIM.record_id) as watch:
        await watch.news(0.001)
    await store.aclose()
    assert len(inner) == 0
    assert [operation for operation, _ in seen] == [
        "claim", "renew", "amend", "mark_unknown", "resolve", "complete", "release", "free", "get", "page",
    ]  # fmt: skip


async def test_a_failure_is_timed_too():
    clock, seen = ManualClock(), []
    inner = MemoryStore(clock=clock, max_records=0)
    store = TimedStore(inner, lambda operation, seconds: seen.append((operation, seconds)), clock)
    with pytest.raises(StoreError):
        await store.claim(CLAIM)
    assert seen == [("claim", 0.0)]
