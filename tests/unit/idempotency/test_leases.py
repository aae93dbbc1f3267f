import asyncio

import pytest

from sidecar.errors import OutcomeUnknown
from sidecar.idempotency import leases
from sidecar.idempotency.core import ForeignRecordError, Loss, State
from sidecar.idempotency.execution import Execution
from tests.unit.idempotency.stores import BODY, policy_with, sidecars, spin


async def state(sidecar, execution):
    record = await sidecar.store.inner.get(execution.claim.record_id)
    return None if record is None else record.state


async def test_a_running_execution_keeps_its_lease():
    (here,) = sidecars()
    execution = await here.ask()
    for _ in range(20):
        here.clock.advance(4.0)
        await here.renew()
        assert await state(here, execution) is State.EXECUTING


async def test_only_what_is_due_is_renewed():
    (here,) = sidecars()
    await here.ask(b"a")
    here.clock.advance(3.0)
    await here.ask(b"b", policy=policy_with(lease=1.0))
    await here.renew()
    assert "renew" not in here.store.calls
    here.clock.advance(0.5)
    await here.renew()
    assert here.store.calls.count("renew") == 1


async def test_a_settled_execution_is_not_renewed():
    (here,) = sidecars()
    for key, settle in ((b"a", "complete"), (b"b", "release"), (b"c", "mark_unknown")):
        execution = await here.ask(key)
        arguments = {"complete": (200, [], BODY), "release": (), "mark_unknown": (Loss.RESET,)}[settle]
        await getattr(execution, settle)(*arguments)
    here.clock.advance(5.0)
    await here.renew()
    assert "renew" not in here.store.calls


@pytest.mark.parametrize("sent", [False, True])
async def test_one_that_is_forsaken_runs_out(sent):
    (here,) = sidecars()
    execution = await here.ask()
    execution.forsake(sent=sent)
    assert here.engine.running == 0
    here.clock.advance(11.0)
    await here.renew()
    assert "renew" not in here.store.calls
    assert await state(here, execution) is State.UNKNOWN
    here.store.flush()
    if sent:  # which is remembered, whatever the store has lost
        with pytest.raises(OutcomeUnknown):
            await here.ask()
    else:
        assert isinstance(await here.ask(), Execution)


async def test_one_that_is_settled_cannot_be_forsaken():
    (here,) = sidecars()
    execution = await here.ask()
    await execution.complete(200, [], BODY)
    execution.forsake(sent=True)
    assert execution.result == "executed"
    assert await state(here, execution) is State.COMPLETED


async def test_a_store_that_is_down_is_asked_again():
    (here,) = sidecars()
    execution = await here.ask()
    here.clock.advance(4.0)
    with here.store.refusing():
        await here.renew()
    here.clock.advance(4.0)
    await here.renew()
    here.clock.advance(4.0)
    assert await state(here, execution) is State.EXECUTING


async def test_a_lease_that_ran_out_is_lost_but_the_result_still_lands():
    here, there = sidecars(2)
    execution = await here.ask()
    here.clock.advance(11.0)
    await here.renew()
    await here.renew()
    assert here.store.calls.count("renew") == 1
    with pytest.raises(OutcomeUnknown):
        await there.ask()
    assert await execution.complete(200, [], BODY)
    assert (await there.ask()).body == BODY


async def test_a_lost_record_is_claimed_again():
    (here,) = sidecars()
    execution = await here.ask()
    here.store.flush()
    here.clock.advance(4.0)
    await here.renew()
    assert await state(here, execution) is State.EXECUTING
    assert await execution.complete(200, [], BODY)


async def test_unless_another_has_its_place():
    here, there = sidecars(2)
    await here.ask()
    here.store.flush()
    real = here.store.inner.renew

    async def renew(claims):
        answers = await real(claims)
        await there.ask()
        return answers

    here.store.inner.renew = renew
    here.clock.advance(4.0)
    await here.renew()
    here.clock.advance(4.0)
    here.store.inner.renew = real
    calls = here.store.calls.count("renew")
    await here.renew()
    assert here.store.calls.count("renew") == calls


async def test_or_something_unreadable_has():
    (here,) = sidecars()
    await here.ask()
    here.store.flush()

    async def claim(*_, **__):
        raise ForeignRecordError("a list")

    here.store.inner.claim = claim
    here.clock.advance(4.0)
    await here.renew()
    here.clock.advance(4.0)
    await here.renew()
    assert here.store.calls.count("renew") == 1


async def test_an_execution_that_is_settled_during_its_renewal_is_let_go():
    (here,) = sidecars()
    execution = await here.ask()
    here.clock.advance(4.0)
    here.store.gate = asyncio.Event()
    renewing = asyncio.create_task(here.renew())
    await spin()
    completing = asyncio.create_task(execution.complete(200, [], BODY))
    await spin()
    here.store.gate.set()
    await asyncio.gather(renewing, completing)
    assert await state(here, execution) is State.COMPLETED
    here.clock.advance(4.0)
    await here.renew()
    assert here.store.calls.count("renew") == 1


async def test_an_execution_that_was_settled_before_its_batch_is_left_out(monkeypatch):
    monkeypatch.setattr(leases, "_BATCH", 1)
    (here,) = sidecars()
    executions = [await here.ask(key) for key in (b"a", b"b")]
    here.clock.advance(4.0)
    real = here.store.inner.renew

    async def renew(claims):
        await executions[1].complete(200, [], BODY)
        return await real(claims)

    here.store.inner.renew = renew
    await here.renew()
    assert await state(here, executions[0]) is State.EXECUTING
    assert await state(here, executions[1]) is State.COMPLETED


async def test_many_are_renewed_in_batches(monkeypatch):
    monkeypatch.setattr(leases, "_BATCH", 2)
    (here,) = sidecars()
    for key in (b"a", b"b", b"c"):
        assert isinstance(await here.ask(key), Execution)
    here.clock.advance(4.0)
    await here.renew()
    assert here.store.calls.count("renew") == 2


async def test_the_engines_own_task_renews(monkeypatch):
    monkeypatch.setattr(leases, "_TICK", 0.0)
    (here,) = sidecars()
    here.engine.start()
    await here.ask()
    here.clock.advance(4.0)
    await spin()
    assert "renew" in here.store.calls
    await here.engine.aclose()
