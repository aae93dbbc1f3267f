"""The bulkhead against a model: one queue for all workers, and bells that may be answered late."""

from __future__ import annotations

from contextlib import nullcontext

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from sidecar.bulkhead.core import COMMON_CELLS, OWN_CELLS, Permits
from sidecar.scoreboard.row import Row

MAX_QUEUE = 4


class BulkheadMachine(RuleBasedStateMachine):
    """A call is a list ``[worker, state]``; its state is one of held, waiting, streaming, gone."""

    calls = Bundle("calls")

    @initialize(workers=st.sampled_from([1, 3]), limit=st.integers(1, 8))
    def start(self, workers: int, limit: int) -> None:
        everyone = tuple(range(COMMON_CELLS, COMMON_CELLS + workers * OWN_CELLS, OWN_CELLS))
        cells = [0] * (COMMON_CELLS + workers * OWN_CELLS)
        self.now = 1.0
        self.limit = self.highest_limit = limit
        self.queue: list[int] = []
        self.calls_by_id: dict[int, list] = {}
        self.bells: set[int] = set()
        self.workers = [
            Permits(
                limit,
                MAX_QUEUE,
                grant=self.granted,
                row=Row(cells, lock=nullcontext(), mine=mine, everyone=everyone),
                ring=self.bells.add,
            )
            for mine in everyone
        ]

    @property
    def held(self) -> int:
        return sum(call[1] == "held" for call in self.calls_by_id.values())

    def granted(self, waiter: int) -> None:
        assert self.queue[0] == waiter, "not the one that has waited longest"
        self.queue.pop(0)
        self.calls_by_id[waiter][1] = "held"

    @rule(target=calls, worker=st.integers(0, 2))
    def call(self, worker: int):
        worker %= len(self.workers)
        permits = self.workers[worker]
        self.now += 1
        call = [worker, "gone"]
        self.calls_by_id[id(call)] = call
        free = self.held < self.limit and not self.queue
        assert permits.try_acquire() == free
        if free:
            call[1] = "held"
        else:
            room = len(self.queue) < MAX_QUEUE
            if room:
                self.queue.append(id(call))
                call[1] = "waiting"
            assert permits.enqueue(id(call), self.now) == room
        return call

    @rule(call=calls)
    def end(self, call: list) -> None:
        worker, state = call
        permits = self.workers[worker]
        call[1] = "gone"
        if state == "held":
            permits.release()
        elif state == "streaming":
            permits.end_stream()
        elif state == "waiting":
            self.queue.remove(id(call))
            assert permits.withdraw(id(call))
        else:
            assert not permits.withdraw(id(call))

    @rule(call=calls)
    def become_a_stream(self, call: list) -> None:
        if call[1] == "held":
            call[1] = "streaming"
            self.workers[call[0]].begin_stream()

    @rule(worker=st.integers(0, 2), limit=st.integers(1, 8))
    def resize(self, worker: int, limit: int) -> None:
        self.limit = limit
        self.workers[worker % len(self.workers)].resize(limit)

    @rule()
    def answer_the_bells(self) -> None:
        while self.bells:
            self.workers[self.bells.pop()].hand_out()
        assert not self.queue or self.held >= self.limit, "a permit is free and somebody waits"

    @invariant()
    def the_figures_are_true(self) -> None:
        for permits in self.workers:
            assert permits.limit == self.limit
            assert permits.in_use == self.held
            assert permits.waiting == len(self.queue)
            assert permits.streams == sum(call[1] == "streaming" for call in self.calls_by_id.values())

    @invariant()
    def nobody_waits_unseen(self) -> None:
        if self.queue and self.held < self.limit:
            assert self.bells, "a permit is free, somebody waits, and nobody was rung"

    def teardown(self) -> None:
        for call in list(self.calls_by_id.values()):
            self.end(call)
            self.answer_the_bells()
        for permits in self.workers:
            assert (permits.in_use, permits.waiting, permits.streams) == (0, 0, 0)


TestBulkhead = BulkheadMachine.TestCase
TestBulkhead.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
