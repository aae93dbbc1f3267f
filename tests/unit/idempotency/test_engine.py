import asyncio

import pytest

from sidecar.errors import (
    DuplicateInProgress,
    KeyConflict,
    OutcomeUnknown,
    ResponseNotReplayable,
    StoreUnavailable,
)
from sidecar.idempotency.core import BUFFERED_BODY, ForeignRecordError, Loss, State
from sidecar.idempotency.engine import Engine, Replay, Undecided
from sidecar.idempotency.execution import UNPROTECTED, Execution
from sidecar.idempotency.fingerprint import Fingerprinter, Kind
from sidecar.idempotency.memory import MemoryIdempotencyStore
from tests.unit.idempotency.stores import BODY, POLICY, policy_with, sidecars, spin, workers

OPEN = policy_with(store_open=True)
REEXECUTE = policy_with(reexecute=True)
WAIT = policy_with(wait=True, wait_timeout=5.0)
HEADERS = [(b"Location", b"/1"), (b"Date", b"today")]
LARGE = b"x" * (BUFFERED_BODY + 1)


def large(body=LARGE, target=b"/orders"):
    fingerprinter = Fingerprinter(Kind.RAW, b"POST", target, b"")
    fingerprinter.update(body)
    return fingerprinter


async def stream(sidecar, policy=POLICY, fingerprinter=None):
    fingerprinter = fingerprinter or large()
    record_id = policy.record_id([[]], b"k")
    return await sidecar.engine.claim(policy, record_id, fingerprinter.provisional(), "c")


async def test_the_first_request_executes_and_the_second_is_a_replay():
    (here,) = sidecars()
    execution = await here.ask(correlation_id="first")
    assert isinstance(execution, Execution)
    assert execution.protected
    assert await execution.complete(201, HEADERS, BODY)
    assert execution.result == "executed"
    replay = await here.ask(correlation_id="second")
    assert isinstance(replay, Replay)
    assert (replay.status, replay.headers, replay.body) == (201, ((b"Location", b"/1"),), BODY)
    assert (replay.correlation_id, replay.result) == ("first", "replayed")


async def test_while_the_first_runs_the_second_is_refused():
    here, there = sidecars(2)
    await here.ask()
    for sidecar in (here, there):
        with pytest.raises(DuplicateInProgress) as caught:
            await sidecar.ask()
        assert caught.value.retry_after == 1
        assert caught.value.reason == "in_progress"


@pytest.mark.parametrize("step", ["running", "completed", "unknown"])
async def test_another_request_under_the_same_key_is_a_conflict_at_once(step):
    here, there = sidecars(2)
    execution = await here.ask()
    if step == "completed":
        await execution.complete(200, [], b"")
    if step == "unknown":
        await execution.mark_unknown(Loss.RESET)
    for sidecar in (here, there):
        with pytest.raises(KeyConflict) as caught:
            await sidecar.ask(body=b"other")
        assert caught.value.reason == "conflict"


@pytest.mark.parametrize("status", [401, 503])
async def test_a_status_that_is_not_kept_frees_the_key(status):
    (here,) = sidecars()
    execution = await here.ask()
    assert await execution.complete(status, [], b"")
    assert execution.result == "released"
    assert isinstance(await here.ask(), Execution)


async def test_the_same_goes_for_a_large_response():
    (here,) = sidecars()
    execution = await here.ask()
    assert await execution.complete_without_body(503)
    execution = await here.ask()
    assert await execution.complete_without_body(200)
    with pytest.raises(ResponseNotReplayable) as caught:
        await here.ask()
    assert caught.value.details == {"original_status": 200}
    assert caught.value.reason == "not_replayable"


async def test_what_was_not_sent_frees_the_key():
    (here,) = sidecars()
    execution = await here.ask()
    await execution.release()
    assert execution.result == "released"
    assert isinstance(await here.ask(body=b"other"), Execution)


async def test_an_unknown_outcome_blocks_the_key():
    here, there = sidecars(2)
    execution = await here.ask()
    error = await execution.mark_unknown(Loss.TIMEOUT)
    assert isinstance(error, OutcomeUnknown)
    assert error.answer_status == 504
    assert execution.result == "unknown"
    for sidecar in (here, there):
        with pytest.raises(OutcomeUnknown) as caught:
            await sidecar.ask()
        assert caught.value.answer_status == 409


async def test_a_late_result_lands():
    here, there = sidecars(2)
    execution = await here.ask()
    await execution.mark_unknown(Loss.TIMEOUT)
    assert await execution.complete(200, [], BODY)
    assert isinstance(await there.ask(), Replay)


async def test_a_settled_execution_stays_settled():
    (here,) = sidecars()
    execution = await here.ask()
    assert await execution.complete(200, [], BODY)
    await execution.release()
    await execution.mark_unknown(Loss.RESET)
    assert await execution.complete(500, [], b"")
    assert (await here.ask()).status == 200


async def test_a_released_execution_does_nothing_more():
    (here,) = sidecars()
    execution = await here.ask()
    await execution.release()
    second = await here.ask()
    await execution.release()
    assert await execution.complete(200, [], b"")
    assert here.engine.running == 1
    await second.release()


async def test_an_unknown_execution_is_not_released():
    (here,) = sidecars()
    execution = await here.ask()
    await execution.mark_unknown(Loss.RESET)
    await execution.release()
    assert execution.result == "unknown"


async def test_a_dead_claimants_lease_runs_out_into_an_unknown_outcome():
    here, there = sidecars(2)
    await here.ask()
    here.clock.advance(10.0)
    with pytest.raises(OutcomeUnknown):
        await there.ask()


async def test_where_the_route_says_so_an_unknown_outcome_is_executed_again():
    here, there = sidecars(2)
    execution = await here.ask(policy=REEXECUTE)
    assert await execution.mark_unknown(Loss.TIMEOUT) is None
    with pytest.raises(KeyConflict):
        await there.ask(policy=REEXECUTE, body=b"other")
    second = await there.ask(policy=REEXECUTE)
    assert isinstance(second, Execution)
    with pytest.raises(DuplicateInProgress):
        await here.ask(policy=REEXECUTE)
    assert not await execution.complete(200, [], b"too late")
    assert await second.complete(200, [], b"second")
    assert (await here.ask(policy=REEXECUTE)).body == b"second"


async def test_two_that_take_over_the_same_unknown_outcome_do_not_both_execute():
    here, there = sidecars(2)
    execution = await here.ask(policy=REEXECUTE)
    await execution.mark_unknown(Loss.TIMEOUT)
    outcomes = await asyncio.gather(
        here.ask(policy=REEXECUTE), there.ask(policy=REEXECUTE), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DuplicateInProgress", "Execution"]


async def test_a_takeover_that_another_won_is_judged_anew():
    here, there = sidecars(2)
    execution = await here.ask(policy=REEXECUTE)
    await execution.mark_unknown(Loss.TIMEOUT)
    record = await here.store.inner.get(execution.claim.record_id)
    winner = await there.ask(policy=REEXECUTE)
    request = here.engine
    assert record.state is State.UNKNOWN
    here.store.inner.claim, real = _first(record, here.store.inner.claim), here.store.inner.claim
    with pytest.raises(DuplicateInProgress):
        await here.ask(policy=REEXECUTE)
    here.store.inner.claim = real
    assert request.running == 0
    await winner.release()


def _first(answer, then):
    """A claim that is answered with ``answer``, and the real claim from then on."""
    answers = [answer]

    async def claim(*args, **kwargs):
        return answers.pop() if answers else await then(*args, **kwargs)

    return claim


class TestWithoutStore:
    async def test_a_keyed_request_is_refused(self):
        (here,) = sidecars()
        with here.store.refusing(), pytest.raises(StoreUnavailable) as caught:
            await here.ask()
        assert caught.value.reason == "store_down"
        assert caught.value.retry_after == 1

    async def test_or_executed_without_protection_where_the_route_says_so(self):
        (here,) = sidecars()
        with here.store.refusing():
            execution = await here.ask(policy=OPEN)
        assert execution is UNPROTECTED
        assert not execution.protected
        assert execution.result == "unprotected"
        await execution.body_passed(large().finish())
        assert await execution.complete(200, [], b"")
        assert await execution.complete_without_body(200)
        await execution.release()
        assert await execution.mark_unknown(Loss.RESET) is None

    async def test_but_never_when_this_process_knows_the_key(self):
        (here,) = sidecars()
        execution = await here.ask(policy=OPEN)
        with here.store.refusing():
            with pytest.raises(DuplicateInProgress):
                await here.ask(policy=OPEN)
            with pytest.raises(StoreUnavailable):
                await here.ask(policy=policy_with(store_open=True, wait=True))
        await execution.complete(200, [], b"")
        with here.store.refusing(), pytest.raises(StoreUnavailable):
            await here.ask(policy=OPEN)

    async def test_nothing_is_left_of_a_claim_that_was_not_answered(self):
        (here,) = sidecars()
        with here.store.silent(), pytest.raises(StoreUnavailable):
            await here.ask()
        assert len(here.store.inner) == 1
        assert await here.retry_writes()
        assert len(here.store.inner) == 0
        assert here.engine.unwritten == 0

    async def test_nor_of_one_whose_caller_was_cancelled(self):
        (here,) = sidecars()
        here.store.gate = asyncio.Event()
        task = asyncio.create_task(here.ask())
        await spin()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert here.engine.unwritten == 1

    async def test_a_record_that_cannot_be_read_is_never_executed(self):
        (here,) = sidecars()
        here.store.down = ForeignRecordError("a list")
        with pytest.raises(StoreUnavailable):
            await here.ask(policy=OPEN)


class TestLostRecords:
    async def test_a_flushed_store_does_not_lead_to_a_second_execution(self):
        here, there = sidecars(2)
        execution = await here.ask()
        await execution.complete(200, [], BODY)
        here.store.flush()
        with pytest.raises(OutcomeUnknown):
            await here.ask()
        with pytest.raises(OutcomeUnknown):  # the others have been told
            await there.ask()

    async def test_nor_to_one_by_another_worker_while_the_first_runs(self):
        here, there = workers(2)
        execution = await here.ask()
        here.store.flush()
        with pytest.raises(OutcomeUnknown):
            await there.ask()
        assert not await execution.complete(200, [], BODY)

    @pytest.mark.parametrize("policy", [POLICY, REEXECUTE])
    async def test_a_key_that_was_released_is_free_for_all_workers(self, policy):
        here, there = workers(2)
        execution = await here.ask(policy=policy)
        await (execution.release() if policy is POLICY else execution.mark_unknown(Loss.RESET))
        here.store.flush()
        assert isinstance(await there.ask(policy=policy), Execution)

    async def test_the_same_goes_for_a_route_that_executes_unknown_outcomes_again(self):
        (here,) = sidecars()
        execution = await here.ask(policy=REEXECUTE)
        await execution.complete(200, [], BODY)
        here.store.flush()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await here.ask(policy=REEXECUTE)

    async def test_a_running_execution_is_known_without_the_store(self):
        here, there = sidecars(2)
        execution = await here.ask()
        here.store.flush()
        with pytest.raises(DuplicateInProgress):
            await here.ask()
        here.clock.advance(4.0)
        await here.renew()
        with pytest.raises(DuplicateInProgress):
            await there.ask()
        assert await execution.complete(200, [], BODY)

    async def test_a_claim_that_raced_with_the_loss_gives_its_place_back(self):
        (here,) = sidecars()
        here.store.gate = asyncio.Event()
        tasks = [asyncio.create_task(here.ask()) for _ in range(2)]
        await spin()
        # Both have asked; the store grants one, loses everything, and grants the other.
        here.store.inner.claim = _flushing(here.store, here.store.inner.claim)
        here.store.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["DuplicateInProgress", "Execution"]
        (execution,) = (outcome for outcome in outcomes if isinstance(outcome, Execution))
        assert await execution.complete(200, [], BODY)

    async def test_when_the_time_to_live_is_over_the_key_is_new(self):
        (here,) = sidecars()
        execution = await here.ask()
        await execution.complete(200, [], BODY)
        here.clock.advance(100.0)
        assert isinstance(await here.ask(), Execution)

    async def test_an_operators_release_is_believed(self):
        (here,) = sidecars()
        execution = await here.ask()
        await execution.mark_unknown(Loss.RESET)
        await here.store.inner.free(execution.claim.record_id)
        again = await here.ask()
        assert isinstance(again, Execution)
        await again.release()
        assert isinstance(await here.ask(), Execution)


def _flushing(store, claim):
    async def claim_after_flush(*args, **kwargs):
        store.flush()
        return await claim(*args, **kwargs)

    return claim_after_flush


class TestWaiting:
    async def test_a_waiting_duplicate_gets_the_first_ones_response(self):
        here, there = sidecars(2)
        execution = await here.ask()
        waiting = [asyncio.create_task(sidecar.ask(policy=WAIT)) for sidecar in (here, there)]
        await spin()
        await execution.complete(201, [], BODY)
        for outcome in await asyncio.gather(*waiting):
            assert outcome.body == BODY
            assert outcome.result == "waited"

    async def test_or_takes_its_place_when_it_was_released(self):
        here, there = sidecars(2)
        execution = await here.ask()
        waiting = [asyncio.create_task(sidecar.ask(policy=WAIT)) for sidecar in (here, there)]
        await spin()
        await execution.release()
        await spin()
        done, pending = await asyncio.wait(waiting, timeout=0)
        assert [type(task.result()) for task in done] == [Execution]
        await done.pop().result().complete(200, [], BODY)
        assert (await pending.pop()).result == "waited"

    async def test_or_hears_that_the_outcome_is_unknown(self):
        here, there = sidecars(2)
        execution = await here.ask()
        waiting = asyncio.create_task(there.ask(policy=WAIT))
        await spin()
        await execution.mark_unknown(Loss.RESET)
        with pytest.raises(OutcomeUnknown):
            await waiting

    async def test_but_not_for_ever(self):
        here, there = sidecars(2)
        await here.ask()
        policy = policy_with(wait=True, wait_timeout=0.001)
        waiting = [asyncio.create_task(sidecar.ask(policy=policy)) for sidecar in (here, there)]
        await spin()
        here.clock.advance(0.001)
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, DuplicateInProgress)

    async def test_a_response_that_the_store_has_not_taken_is_replayed_from_here(self):
        (here,) = sidecars()
        execution = await here.ask()
        waiting = asyncio.create_task(here.ask(policy=WAIT))
        await spin()
        with here.store.refusing():
            assert not await execution.complete(200, [], BODY)
            assert (await waiting).body == BODY
            assert (await here.ask()).body == BODY
        assert execution.result == "not_stored"


class TestStreamedBodies:
    async def test_a_streamed_request_is_claimed_before_its_body_has_passed(self):
        here, there = sidecars(2)
        fingerprinter = large()
        execution = await stream(here)
        await execution.body_passed(fingerprinter.finish())
        await execution.complete(200, [], BODY)
        duplicate = await stream(there)
        assert isinstance(duplicate, Undecided)
        assert (await duplicate.decide(large().finish())).body == BODY
        conflicting = await stream(there)
        with pytest.raises(KeyConflict):
            await conflicting.decide(large(LARGE + b"y").finish())

    async def test_while_the_first_streams_duplicates_are_told_so_when_they_have_passed(self):
        here, there = sidecars(2)
        execution = await stream(here)
        duplicates = [await stream(sidecar) for sidecar in (here, there)]
        for duplicate in duplicates:
            with pytest.raises(DuplicateInProgress):
                await duplicate.decide(large().finish())
        await execution.body_passed(large().finish())
        for duplicate in duplicates:
            with pytest.raises(KeyConflict):
                await duplicate.decide(large(LARGE + b"y").finish())

    async def test_what_cannot_be_the_same_request_is_a_conflict_at_once(self):
        here, there = sidecars(2)
        await stream(here)
        for sidecar in (here, there):
            with pytest.raises(KeyConflict):
                await stream(sidecar, fingerprinter=large(target=b"/other"))
            with pytest.raises(KeyConflict):
                await sidecar.ask()

    async def test_an_upload_that_broke_off_blocks_the_key(self):
        here, there = sidecars(2)
        execution = await stream(here)
        await execution.mark_unknown(Loss.UPLOAD)
        duplicate = await stream(there)
        with pytest.raises(OutcomeUnknown):
            await duplicate.decide(large().finish())

    async def test_or_is_executed_again_where_the_route_says_so(self):
        here, there = sidecars(2)
        execution = await stream(here, REEXECUTE)
        await execution.mark_unknown(Loss.UPLOAD)
        assert isinstance(await stream(there, REEXECUTE), Execution)

    async def test_a_duplicate_that_was_hashed_cannot_execute(self):
        here, there = sidecars(2)
        execution = await stream(here, REEXECUTE)
        duplicate = await stream(there, REEXECUTE)
        other = await stream(there, REEXECUTE)
        await execution.mark_unknown(Loss.RESET)
        with pytest.raises(DuplicateInProgress):
            await duplicate.decide(large().finish())
        await execution.complete(503, [], b"")
        assert execution.result == "unknown"
        await here.store.inner.free(execution.claim.record_id)
        with pytest.raises(DuplicateInProgress):
            await other.decide(large().finish())

    async def test_it_waits_where_the_route_says_so(self):
        here, there = sidecars(2)
        execution = await stream(here)
        duplicate = await stream(there, WAIT)
        waiting = asyncio.create_task(duplicate.decide(large().finish()))
        await spin()
        await execution.body_passed(large().finish())
        await execution.complete(200, [], BODY)
        assert (await waiting).result == "waited"

    async def test_a_store_that_is_down_leaves_it_undecided(self):
        here, there = sidecars(2)
        await stream(here)
        duplicate = await stream(there)
        with here.store.refusing(), pytest.raises(StoreUnavailable):
            await duplicate.decide(large().finish())

    async def test_a_fingerprint_that_cannot_be_fixed_is_stored_with_the_response(self):
        here, there = sidecars(2)
        execution = await stream(here)
        with here.store.refusing():
            await execution.body_passed(large().finish())
        await execution.complete(200, [], BODY)
        duplicate = await stream(there)
        with pytest.raises(KeyConflict):
            await duplicate.decide(large(LARGE + b"y").finish())


async def test_a_cancelled_waiter_is_forgotten():
    (here,) = sidecars()
    execution = await here.ask()
    waiting = [asyncio.create_task(here.ask(policy=WAIT)) for _ in range(2)]
    await spin()
    waiting[0].cancel()
    await spin()
    await execution.complete(200, [], BODY)
    assert (await waiting[1]).body == BODY
    assert waiting[0].cancelled()


async def test_fingerprints_of_large_documents_are_taken_in_a_thread():
    (here,) = sidecars()
    policy = policy_with(kind=Kind.JSON)
    body = b"[" + b"1," * 40_000 + b"1]"
    one = await here.engine.fingerprint(policy, b"POST", b"/", b"", body)
    two = await here.engine.fingerprint(policy, b"POST", b"/", b"", body.replace(b",", b" ,"))
    assert one.value == two.value
    small = await here.engine.fingerprint(policy, b"POST", b"/", b"", b"[1]")
    assert small.value != one.value


async def test_start_and_stop():
    engine = Engine(MemoryIdempotencyStore())
    engine.start()
    await engine.aclose()


async def test_what_requests_wait_for_is_timed():
    seen = []
    engine = Engine(
        MemoryIdempotencyStore(), observe=lambda operation, seconds: seen.append((operation, seconds >= 0))
    )
    fingerprint = await engine.fingerprint(POLICY, b"POST", b"/", b"", b"")
    for key in (b"a", b"b", b"c"):
        execution = await engine.claim(POLICY, POLICY.record_id([[]], key), fingerprint, "c")
        if key == b"a":
            await execution.complete(200, [], b"")
        elif key == b"b":
            await execution.release()
        else:
            await execution.mark_unknown(Loss.RESET)
    operations = ["claim", "complete", "claim", "release", "claim", "mark_unknown"]
    assert seen == [(operation, True) for operation in operations]
