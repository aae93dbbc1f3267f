"""Sidecars on one store, with a counting upstream as the judge: a key is never executed twice."""

from collections import Counter, defaultdict
from contextlib import suppress

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sidecar.clock import ManualClock
from sidecar.errors import SidecarError
from sidecar.idempotency.core import Loss
from sidecar.idempotency.execution import Execution
from sidecar.idempotency.inquiry import Replay
from sidecar.idempotency.operator import Operator, RecordBusyError, RecordNotFoundError
from sidecar.idempotency.sent import SentKeys
from sidecar.idempotency.store import StoreError
from tests.unit.idempotency.stores import FlakyStore, Sidecar, policy_with

KEYS = 3
REFUSED = StoreError("refused", reason="refused", maybe_done=False)
SILENT = StoreError("silent", reason="timeout", maybe_done=True)
# No run takes as long as the time to live, so that no record ends and no key may be executed again for that.
LASTING = policy_with(ttl=1e6)

keys = st.integers(0, KEYS - 1)
sidecar_numbers = st.integers(0, 2)


class EngineMachine(RuleBasedStateMachine):
    """Requests, failures of every kind, crashes, and operators."""

    executions = Bundle("executions")
    late = Bundle("late")
    loop = None
    sidecar_count = 0
    store_forgets = False
    are_workers = False

    def __init__(self):
        super().__init__()
        self.clock = ManualClock()
        self.store = FlakyStore(self.clock)
        self.sent = SentKeys(1024) if self.are_workers else None
        self.sidecars = [Sidecar(self.store, self.clock, self.sent) for _ in range(self.sidecar_count)]
        self.executed = Counter()
        """What the upstream has done under each key, and no operator has undone."""
        self.responses = defaultdict(set)
        """Bodies that the upstream has answered with."""

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def sidecar(self, number):
        return number % self.sidecar_count

    def alive(self, held):
        _, number, engine, _ = held
        return self.sidecars[number].engine is engine

    @rule(target=executions, number=sidecar_numbers, key=keys, body=st.sampled_from([b"1", b"1", b"1", b"2"]))
    def request(self, number, key, body):
        number = self.sidecar(number)
        sidecar = self.sidecars[number]
        try:
            outcome = self.run(sidecar.ask(b"%d" % key, body, LASTING))
        except SidecarError:
            return multiple()
        if isinstance(outcome, Replay):
            assert outcome.body in self.responses[key]
            return multiple()
        assert isinstance(outcome, Execution)
        assert outcome.protected
        return key, number, sidecar.engine, outcome

    @rule(held=consumes(executions), body=st.binary(max_size=3))
    def answered(self, held, body):
        if self.alive(held):
            key, _, _, execution = held
            self.executed[key] += 1
            self.responses[key].add(body)
            self.run(execution.complete(200, [], body))

    @rule(held=consumes(executions))
    def answered_at_length(self, held):
        if self.alive(held):
            key, _, _, execution = held
            self.executed[key] += 1
            self.run(execution.complete_without_body(200))

    @rule(held=consumes(executions))
    def answered_not_now(self, held):
        if self.alive(held):
            self.run(held[-1].complete(503, [], b""))

    @rule(held=consumes(executions))
    def not_sent(self, held):
        if self.alive(held):
            self.run(held[-1].release())

    @rule(target=late, held=consumes(executions))
    def broken_off(self, held):
        if not self.alive(held):
            return multiple()
        key, _, _, execution = held
        self.executed[key] += 1
        self.run(execution.mark_unknown(Loss.TIMEOUT))
        return held

    @rule(held=consumes(late))
    def answered_late(self, held):
        if self.alive(held):
            key, _, _, execution = held
            self.responses[key].add(b"late")
            self.run(execution.complete(200, [], b"late"))

    @precondition(lambda self: self.are_workers or not self.store_forgets)
    @rule(number=sidecar_numbers)
    def crash(self, number):
        """The process dies; all that it was executing has reached the upstream."""
        number = self.sidecar(number)
        for execution in self.sidecars[number].engine._ledger.running.values():
            if execution.response is None:
                (key,) = (
                    k for k in range(KEYS) if LASTING.record_id([[]], b"%d" % k) == execution.claim.record_id
                )
                self.executed[key] += 1
        self.sidecars[number] = Sidecar(self.store, self.clock, self.sent)

    @precondition(lambda self: self.store_forgets)
    @rule()
    def flush(self):
        self.store.flush()

    @rule(down=st.sampled_from([None, None, REFUSED, SILENT]))
    def store_changes(self, down):
        self.store.down = down if down is REFUSED else None
        self.store.mute = down if down is SILENT else None

    @rule(number=sidecar_numbers)
    def write_what_waits(self, number):
        self.run(self.sidecars[self.sidecar(number)].retry_writes())

    @rule(number=sidecar_numbers)
    def renew(self, number):
        self.run(self.sidecars[self.sidecar(number)].renew())

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(key=keys)
    def operator_releases(self, key):
        """Having made sure that nothing was done, or having undone it."""
        operator = Operator(self.store, {LASTING.route: LASTING})
        record_id = LASTING.record_id([[]], b"%d" % key)
        if any(record_id in sidecar.engine._ledger.running for sidecar in self.sidecars):
            return  # still at work somewhere: who releases that decides for a second execution
        stood = self.run(self.store.inner.get(record_id)) is not None
        with suppress(RecordBusyError, RecordNotFoundError, StoreError):
            self.run(operator.release(record_id))
        if stood and self.run(self.store.inner.get(record_id)) is None:
            self.executed[key] = 0  # also where the operator was not told, because the reply was lost

    @invariant()
    def no_key_was_executed_twice(self):
        assert max(self.executed.values(), default=0) <= 1


@pytest.mark.parametrize(
    "attributes",
    [
        {"sidecar_count": 3},
        {"sidecar_count": 1, "store_forgets": True},
        {"sidecar_count": 3, "store_forgets": True, "are_workers": True},
    ],
    ids=["crashes", "flushes", "workers"],
)
def test_no_key_is_executed_twice(attributes):
    loop = uvloop.new_event_loop()
    run_state_machine_as_test(
        type("Machine", (EngineMachine,), {**attributes, "loop": loop}),
        settings=settings(
            max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    loop.close()
