"""The circuit breaker against a model that remembers every call, alone and shared by three workers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.breaker.core import REFUSED, Breaker
from sidecar.breaker.layout import COMMON_CELLS, OWN_CELLS
from sidecar.breaker.settings import BreakerSettings
from sidecar.breaker.states import TRANSITIONS, Counts, Mode
from sidecar.clock import ManualClock
from sidecar.scoreboard.row import Row

SETTINGS = BreakerSettings(
    failure_threshold=3, success_threshold=2, minimum_calls=5, failure_rate=0.6, slow_call=1.0, slow_rate=0.8
)
FORCED = (Mode.FORCED_OPEN, Mode.FORCED_CLOSED)
OUTCOMES = st.sampled_from(["good", "good", "soft", "hard", "hard", "cancelled"])
DURATIONS = st.sampled_from([0.25, 1.0, 1.25])


class NoJitter(Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@dataclass
class Model:
    """What SEMANTICS says, without a thought for speed. ``period`` is the generation."""

    now: float
    state: str = "closed"
    period: int = 0
    calls: list = field(default_factory=list)  # (second, failed, slow)
    run: int = 0
    open_until: float = 0.0
    reopened: int = 0
    probes: int = 0
    succeeded: int = 0
    slow_probes: int = 0
    mode: Mode = Mode.AUTO
    mode_until: float = 0.0

    def enter(self, state: str) -> None:
        self.state = state
        self.period += 1
        self.calls.clear()
        self.run = self.probes = self.succeeded = self.slow_probes = 0
        if state == "closed":
            self.reopened = 0
        if state == "open":
            self.open_until = self.now + min(30 * 2**self.reopened, 120)

    def tick(self) -> None:
        if self.mode is not Mode.AUTO and self.now >= self.mode_until:
            self.override(Mode.AUTO, 0)
        if self.state == "open" and self.mode is not Mode.FORCED_OPEN and self.now >= self.open_until:
            self.enter("half_open")

    def override(self, mode: Mode, seconds: float) -> None:
        was_forced = self.mode in FORCED
        self.mode, self.mode_until = mode, self.now + seconds
        if mode is Mode.FORCED_OPEN:
            self.enter("open")
        elif mode is Mode.FORCED_CLOSED or was_forced:
            self.enter("closed")

    def admits(self) -> bool:
        free = self.state == "half_open" and self.probes + self.succeeded < SETTINGS.success_threshold
        return self.state == "closed" or free

    def window(self) -> list:
        return [call for call in self.calls if call[0] > int(self.now) - 10]

    def counts(self) -> Counts:
        calls = self.window()
        failures, slow = sum(call[1] for call in calls), sum(call[2] for call in calls)
        return Counts(len(calls), failures, slow, self.run)

    def finish(self, outcome: str, slow: bool) -> None:
        if self.state == "half_open":
            self.finish_probe(outcome, slow)
        elif outcome != "cancelled":
            self.calls.append((int(self.now), outcome != "good", slow))
            self.run = self.run + 1 if outcome == "hard" else 0
            if self.mode is not Mode.FORCED_CLOSED and self.must_open():
                self.enter("open")

    def must_open(self) -> bool:
        counts = self.counts()
        return counts.failures_in_a_row >= 3 or (
            counts.calls >= 5
            and (counts.failures >= 0.6 * counts.calls or counts.slow_calls >= 0.8 * counts.calls)
        )

    def finish_probe(self, outcome: str, slow: bool) -> None:
        self.probes -= 1
        if outcome == "cancelled":
            return
        self.slow_probes += slow
        if outcome == "good":
            self.succeeded += 1
            if self.succeeded < SETTINGS.success_threshold:
                return
            if self.slow_probes < 0.8 * SETTINGS.success_threshold:
                self.enter("closed")
                return
        self.reopened += 1
        self.enter("open")


class BreakerMachine(RuleBasedStateMachine):
    permits = Bundle("permits")

    @initialize(workers=st.sampled_from([1, 3]))
    def start(self, workers: int) -> None:
        self.clock = ManualClock(monotonic=1000.0)
        self.transitions = []
        everyone = tuple(range(COMMON_CELLS, COMMON_CELLS + workers * OWN_CELLS, OWN_CELLS))
        cells = [0] * (COMMON_CELLS + workers * OWN_CELLS)
        self.breakers = [
            Breaker(
                "app",
                SETTINGS,
                row=Row(cells, lock=nullcontext(), mine=mine, everyone=everyone),
                clock=self.clock,
                random=NoJitter(),
                on_transition=self.transitions.append,
            )
            for mine in everyone
        ]
        self.model = Model(self.clock.monotonic())

    @rule(outcomes=st.lists(OUTCOMES, min_size=1, max_size=6), duration=DURATIONS)
    def call_one_after_another(self, outcomes: list[str], duration: float) -> None:
        for number, outcome in enumerate(outcomes):
            self.finish(self.admit(number), outcome, duration)

    @rule(target=permits, worker=st.integers(0, 2))
    def admit(self, worker: int):
        breaker = self.breakers[worker % len(self.breakers)]
        permit = breaker.admit(self.clock.monotonic())
        admitted = self.model.admits()
        assert (permit != REFUSED) == (admitted or self.model.mode is Mode.OBSERVE)
        if admitted and self.model.state == "half_open":
            self.model.probes += 1
        return [breaker, permit, self.model.period if admitted else -1]

    @rule(entry=permits, outcome=OUTCOMES, duration=DURATIONS)
    def finish(self, entry: list, outcome: str, duration: float) -> None:
        breaker, permit, period = entry
        if permit == REFUSED:
            return
        entry[1] = REFUSED
        now = self.clock.monotonic()
        if outcome == "good":
            breaker.succeeded(permit, now, duration)
        elif outcome == "cancelled":
            breaker.cancelled(permit)
        else:
            breaker.failed(permit, now, duration, hard=outcome == "hard")
        if period == self.model.period:
            self.model.finish(outcome, duration > 1.0)

    @rule(seconds=st.sampled_from([0.125, 1.0, 5.5, 10.0, 30.0, 120.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now += seconds
        self.model.tick()

    @precondition(lambda self: self.model.state == "open" and self.model.mode is Mode.AUTO)
    @rule()
    def advance_to_half_open(self) -> None:
        self.advance(self.model.open_until - self.model.now)

    @rule(mode=st.sampled_from(list(Mode)), seconds=st.sampled_from([1.0, 45.0]))
    def override(self, mode: Mode, seconds: float) -> None:
        self.breakers[0].override(mode, self.clock.monotonic(), seconds=seconds)
        self.model.override(mode, seconds)

    @invariant()
    def all_workers_agree_with_the_model(self) -> None:
        for breaker in self.breakers:
            stats = breaker.stats(self.clock.monotonic())
            assert stats.state == self.model.state
            assert (stats.override.mode if stats.override else Mode.AUTO) is self.model.mode
            if self.model.state == "closed":
                assert stats.counts == self.model.counts()
            if self.model.state == "half_open":
                assert stats.probes_in_flight == self.model.probes <= SETTINGS.success_threshold
            if self.model.state == "open" and self.model.mode is Mode.AUTO:
                assert stats.retry_after == self.model.open_until - self.model.now

    @invariant()
    def transitions_are_those_of_the_table(self) -> None:
        for transition in self.transitions:
            assert TRANSITIONS[transition.before, transition.cause] is transition.after
        states = ["closed", *[transition.after for transition in self.transitions]]
        assert [transition.before for transition in self.transitions] == states[:-1]


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
