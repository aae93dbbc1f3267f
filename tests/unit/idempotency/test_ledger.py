import asyncio

import pytest

from sidecar.errors import DuplicateInProgress, ResponseNotReplayable
from sidecar.idempotency import ledger
from sidecar.idempotency.core import ForeignRecordError, Loss, State
from sidecar.idempotency.engine import Replay
from sidecar.idempotency.execution import Execution
from tests.unit.idempotency.stores import BODY, policy_with, sidecars, spin


async def test_a_response_that_was_not_stored_is_written_later():
    here, there = sidecars(2)
    execution = await here.ask()
    with here.store.refusing():
        assert not await execution.complete(200, [], BODY)
        assert not await here.retry_writes()
    assert (here.engine.unwritten, here.engine.running) == (1, 1)
    assert await here.retry_writes()
    assert (here.engine.unwritten, here.engine.running) == (0, 0)
    assert (await there.ask()).body == BODY
    assert not await execution.complete(200, [], BODY)


async def test_a_response_whose_record_is_gone_takes_its_place_again():
    here, there = sidecars(2)
    execution = await here.ask()
    here.store.flush()
    assert not await execution.complete(200, [], BODY)
    assert execution.result == "not_stored"
    assert isinstance(await here.ask(), Replay)
    await here.retry_writes()
    assert (await there.ask()).body == BODY


async def test_unless_another_claim_stands_there():
    here, there = sidecars(2)
    execution = await here.ask()
    here.store.flush()
    assert not await execution.complete(200, [], b"here")
    second = await there.ask()
    assert isinstance(second, Execution)
    assert await here.retry_writes()
    assert await second.complete(200, [], b"there")
    assert (await here.ask()).body == b"there"


async def test_or_something_that_cannot_be_read():
    (here,) = sidecars()
    execution = await here.ask()
    here.store.flush()
    assert not await execution.complete(200, [], b"here")

    async def claim(*_, **__):
        raise ForeignRecordError("a list")

    here.store.inner.claim = claim
    assert await here.retry_writes()
    assert here.engine.running == 0


async def test_a_claim_that_appears_between_the_two_writes_is_respected():
    here, there = sidecars(2)
    execution = await here.ask()
    here.store.flush()
    assert not await execution.complete(200, [], b"here")
    real = here.store.inner.complete

    async def complete(*args):
        settled = await real(*args)
        here.store.inner.complete = real
        await there.ask()
        return settled

    here.store.inner.complete = complete
    assert await here.retry_writes()
    with pytest.raises(DuplicateInProgress):
        await here.ask()


async def test_a_release_that_failed_is_written_later():
    here, there = sidecars(2)
    execution = await here.ask()
    with here.store.refusing():
        await execution.release()
    assert here.engine.running == 0
    with pytest.raises(DuplicateInProgress):
        await there.ask()
    await here.retry_writes()
    assert isinstance(await there.ask(), Execution)


async def test_so_is_one_after_the_lease_has_run_out():
    here, there = sidecars(2)
    execution = await here.ask()
    with here.store.refusing():
        await execution.release()
    here.clock.advance(20.0)
    await here.retry_writes()
    assert isinstance(await there.ask(), Execution)


async def test_an_unknown_outcome_that_cannot_be_recorded_is_left_to_the_lease():
    (here,) = sidecars()
    execution = await here.ask()
    with here.store.refusing():
        await execution.mark_unknown(Loss.RESET)
    assert here.engine.running == 0
    here.clock.advance(10.0)
    await here.renew()
    record = await here.store.inner.get(execution.claim.record_id)
    assert (record.state, record.loss) == (State.UNKNOWN, Loss.LEASE)


@pytest.mark.parametrize("method", ["complete", "release", "mark_unknown"])
async def test_a_cancelled_write_is_not_forgotten(method):
    here, there = sidecars(2)
    execution = await here.ask()
    here.store.gate = asyncio.Event()
    arguments = {"complete": (200, [], BODY), "release": (), "mark_unknown": (Loss.RESET,)}[method]
    task = asyncio.create_task(getattr(execution, method)(*arguments))
    await spin()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    here.store.gate = None
    await here.retry_writes()
    assert here.engine.running == 0
    if method == "complete":
        assert (await there.ask()).body == BODY
    if method == "release":
        assert isinstance(await there.ask(), Execution)


async def test_bodies_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(ledger, "MOST_PENDING_BYTES", 10)
    (here,) = sidecars()
    executions = [await here.ask(key) for key in (b"a", b"b")]
    with here.store.refusing():
        for execution in executions:
            assert not await execution.complete(200, [], b"123456")
    assert (await here.ask(b"a")).body == b"123456"
    with pytest.raises(ResponseNotReplayable):
        await here.ask(b"b")
    await here.retry_writes()
    assert isinstance(await here.ask(b"a"), Replay)
    with pytest.raises(ResponseNotReplayable):
        await here.ask(b"b")


async def test_writes_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(ledger, "MOST_PENDING", 1)
    (here,) = sidecars()
    executions = [await here.ask(key) for key in (b"a", b"b", b"c")]
    with here.store.refusing():
        for execution in executions[:2]:
            assert not await execution.complete(200, [], BODY)
        await executions[2].release()
    assert (here.engine.unwritten, here.engine.running) == (1, 1)


async def test_pending_writes_are_retried_by_the_engines_own_task(monkeypatch):
    monkeypatch.setattr(ledger, "_FIRST_DELAY", 0.0)
    monkeypatch.setattr(ledger, "_LONGEST_DELAY", 0.0)
    here, there = sidecars(2)
    here.engine.start()
    execution = await here.ask()
    with here.store.refusing():
        assert not await execution.complete(200, [], BODY)
        await spin()
        assert here.engine.unwritten == 1
    await spin()
    assert here.engine.unwritten == 0
    assert (await there.ask()).body == BODY
    await here.engine.aclose()


async def test_closing_tries_once_more():
    (here,) = sidecars()
    execution = await here.ask()
    with here.store.refusing():
        assert not await execution.complete(200, [], BODY)
    await here.engine.aclose()
    assert here.engine.unwritten == 0


async def test_closing_does_not_wait_for_a_store_that_hangs():
    (here,) = sidecars()
    execution = await here.ask()
    with here.store.refusing():
        assert not await execution.complete(200, [], BODY)
    here.store.gate = asyncio.Event()
    closing = asyncio.create_task(here.engine.aclose(grace=0.001))
    await asyncio.wait([closing], timeout=0.1)
    here.store.gate.set()
    await closing
    assert here.engine.unwritten == 1


async def test_the_memory_of_sent_keys_ends_before_the_record_does():
    (here,) = sidecars()
    policy = policy_with(ttl=1000.0)
    execution = await here.ask(policy=policy)
    await execution.complete(200, [], BODY)
    here.clock.advance(999.5)
    assert isinstance(await here.ask(policy=policy), Replay)
    here.store.flush()
    assert isinstance(await here.ask(policy=policy), Execution)


def test_the_repr_names_the_record_and_the_result():
    async def one():
        (here,) = sidecars()
        return repr(await here.ask())

    text = asyncio.run(one())
    assert text.startswith("<Execution ")
    assert text.endswith(" executed>")
