from __future__ import annotations

from random import Random

import pytest

from sidecar.breaker.core import REFUSED, Breaker
from sidecar.breaker.settings import BreakerSettings
from sidecar.breaker.states import STATES, TRANSITIONS, Cause, Counts, Mode, State


class TestClosed:
    def test_admits_and_counts(self, bench):
        bench.succeed(times=3)
        assert bench.admit() != REFUSED
        assert bench.state == "closed"
        assert bench.breaker.stats(bench.now).counts == Counts(calls=3)

    def test_opens_on_hard_failures_in_a_row(self, bench):
        bench.fail(times=4)
        assert bench.state == "closed"
        bench.fail()
        assert bench.state == "open"
        assert bench.causes == ["failures_in_a_row"]
        assert bench.transitions[0].counts == Counts(5, 5, 0, 5)

    def test_a_success_ends_the_row(self, bench):
        bench.fail(times=4)
        bench.succeed()
        bench.fail(times=4)
        assert bench.state == "closed"

    def test_a_soft_failure_ends_the_row(self, bench):
        bench.fail(times=4)
        bench.fail(hard=False)
        bench.fail(times=4)
        assert bench.state == "closed"

    def test_a_row_may_be_longer_than_the_window(self, bench):
        for _ in range(5):
            bench.clock.advance(60)
            bench.fail()
        assert bench.state == "open"

    def test_opens_on_the_failure_rate(self, bench):
        bench.succeed(times=10)
        bench.fail(hard=False, times=9)
        assert bench.state == "closed"
        bench.fail(hard=False)
        assert bench.state == "open"
        assert bench.causes == ["failure_rate"]

    def test_a_success_can_be_the_call_that_completes_the_minimum(self, bench):
        bench.fail(hard=False, times=10)
        bench.succeed(times=9)
        assert bench.state == "closed"
        bench.succeed()
        assert bench.state == "open"

    def test_failures_leave_the_window(self, bench):
        bench.fail(hard=False, times=10)
        bench.clock.advance(10)
        bench.succeed(times=10)
        assert bench.state == "closed"
        assert bench.breaker.stats(bench.now).counts == Counts(calls=10)

    def test_old_successes_leave_the_window_too(self, make_bench):
        bench = make_bench(failure_threshold=100)
        bench.succeed(times=20)
        bench.clock.advance(9)
        bench.fail(hard=False, times=15)
        assert bench.state == "closed"
        bench.clock.advance(1)
        bench.fail(hard=False, times=5)
        assert bench.causes == ["failure_rate"]

    def test_without_a_failure_rate_only_the_row_counts(self, make_bench):
        bench = make_bench(failure_rate=None)
        bench.fail(hard=False, times=100)
        assert bench.state == "closed"

    def test_opens_on_slow_calls(self, make_bench):
        bench = make_bench(slow_call=1.0)
        bench.succeed(times=4)
        bench.succeed(duration=1.0)  # just in time
        bench.succeed(duration=1.01, times=19)
        assert bench.state == "closed"
        bench.succeed(duration=1.01)
        assert bench.causes == ["slow_calls"]
        assert bench.transitions[0].counts == Counts(25, 0, 20, 0)

    def test_a_slow_failure_is_slow_as_well(self, make_bench):
        bench = make_bench(slow_call=1.0, failure_rate=None, failure_threshold=100)
        bench.fail(times=20, duration=5)
        assert bench.causes == ["slow_calls"]

    def test_cancelled_calls_count_for_nothing(self, bench):
        for _ in range(100):
            bench.breaker.cancelled(bench.admit())
        assert bench.breaker.stats(bench.now).counts == Counts()


class TestOpen:
    def test_refuses_and_says_when_to_come_back(self, bench):
        bench.open()
        bench.clock.advance(12)
        assert bench.admit() == REFUSED
        assert bench.breaker.retry_after(bench.now) == pytest.approx(18)

    def test_open_time_is_jittered_by_ten_percent(self, make_bench):
        times = []
        for seed in range(200):
            bench = make_bench(random=Random(seed))
            bench.open()
            times.append(bench.breaker.retry_after(bench.now))
        assert 27 <= min(times) < 27.5
        assert 32.5 < max(times) <= 33

    def test_open_time_doubles_up_to_two_minutes_while_probes_fail(self, bench):
        bench.half_open()
        seen = []
        for _ in range(4):
            bench.fail()
            seen.append(bench.breaker.retry_after(bench.now))
            bench.clock.advance(seen[-1] + 0.001)
            assert bench.state == "half_open"
        assert seen == pytest.approx([60, 120, 120, 120])
        bench.succeed(times=3)
        bench.open()
        assert bench.breaker.retry_after(bench.now) == pytest.approx(30)

    def test_a_reset_timeout_beyond_two_minutes_does_not_grow(self, make_bench):
        bench = make_bench(reset_timeout=300)
        bench.half_open()
        bench.fail()
        assert bench.breaker.retry_after(bench.now) == pytest.approx(300)

    def test_half_open_begins_without_traffic_and_is_dated_when_it_was_due(self, bench):
        bench.open()
        opened_at = bench.clock.wall()
        bench.clock.advance(100)
        assert bench.breaker.phase(bench.now) == 1
        assert bench.causes == ["failures_in_a_row", "reset_timeout"]
        assert bench.transitions[1].at == pytest.approx(opened_at + 30)
        assert bench.breaker.stats(bench.now).since == pytest.approx(opened_at + 30)

    def test_retry_after_is_a_whole_number_of_milliseconds_and_never_nothing(self, bench):
        bench.open()
        assert bench.breaker.retry_after(bench.now) == 30.0
        bench.clock.advance(29.9999)
        assert bench.breaker.retry_after(bench.now) == 0.001

    def test_the_first_call_after_the_open_time_is_a_probe(self, bench):
        bench.open()
        bench.clock.advance(30.001)
        assert bench.admit() != REFUSED
        assert bench.causes[-1] == "reset_timeout"

    def test_results_from_before_the_transition_are_discarded(self, bench):
        old = bench.admit()
        bench.open()
        bench.succeed(old)
        bench.fail(old)
        bench.breaker.cancelled(old)
        bench.clock.advance(30.001)
        assert bench.state == "half_open"
        bench.fail(old)
        bench.succeed(old, times=3)
        assert bench.state == "half_open"
        bench.succeed(times=3)
        assert bench.state == "closed"
        bench.fail(old, times=5)
        assert bench.state == "closed"


class TestHalfOpen:
    def test_admits_no_more_probes_than_successes_are_needed(self, bench):
        bench.half_open()
        permits = [bench.admit() for _ in range(100)]
        assert [permit != REFUSED for permit in permits] == [True] * 3 + [False] * 97
        assert bench.breaker.retry_after(bench.now) == 1.0
        assert bench.breaker.stats(bench.now).probes_in_flight == 3

    def test_as_many_successes_close_it(self, bench):
        bench.half_open()
        probes = [bench.admit() for _ in range(3)]
        for probe in probes[:2]:
            bench.succeed(probe)
        assert bench.state == "half_open"
        assert bench.admit() == REFUSED  # one success is missing, and one probe is under way
        bench.succeed(probes[2])
        assert bench.state == "closed"
        assert bench.causes[-1] == "probes_succeeded"
        assert bench.transitions[-1].counts == Counts(calls=3)
        assert bench.breaker.retry_after(bench.now) == 0.0

    def test_one_failure_reopens_it(self, bench):
        bench.half_open()
        first, second = bench.admit(), bench.admit()
        bench.succeed(first)
        bench.fail(second, hard=False)
        assert bench.state == "open"
        assert bench.causes[-1] == "probe_failed"
        assert bench.transitions[-1].counts == Counts(2, 1, 0, 1)

    def test_a_cancelled_probe_gives_its_permit_back(self, bench):
        bench.half_open()
        for _ in range(1000):
            probe = bench.admit()
            assert probe != REFUSED
            bench.breaker.cancelled(probe)
        assert bench.breaker.stats(bench.now).probes_in_flight == 0
        bench.succeed(times=3)
        assert bench.state == "closed"

    def test_a_probe_that_ends_twice_gives_one_permit_back(self, bench):
        bench.half_open()
        probe = bench.admit()
        bench.breaker.cancelled(probe)
        bench.breaker.cancelled(probe)
        assert [bench.admit() != REFUSED for _ in range(4)] == [True, True, True, False]

    def test_a_probe_of_an_earlier_half_open_period_gives_nothing_back(self, bench):
        bench.half_open()
        late = bench.admit()
        bench.fail()
        bench.clock.advance(60)
        assert bench.state == "half_open"
        current = [bench.admit() for _ in range(3)]
        bench.breaker.cancelled(late)
        assert bench.admit() == REFUSED
        bench.breaker.cancelled(current[0])
        assert bench.admit() != REFUSED

    def test_counts_are_those_of_the_probes(self, make_bench):
        bench = make_bench(slow_call=1, slow_rate=1)
        bench.half_open()
        bench.succeed(duration=2)
        assert bench.breaker.stats(bench.now).counts == Counts(calls=1, slow_calls=1)

    def test_slow_probes_reopen_it(self, make_bench):
        bench = make_bench(slow_call=1.0, slow_rate=0.6)
        bench.half_open()
        bench.succeed(duration=0.1)
        bench.succeed(duration=2, times=2)
        assert bench.causes[-1] == "probes_slow"
        bench.clock.advance(60)
        bench.succeed(duration=2)
        bench.succeed(duration=0.1, times=2)
        assert bench.state == "closed"

    def test_closing_begins_with_empty_counts(self, bench):
        bench.half_open()
        bench.succeed(times=3)
        assert bench.breaker.stats(bench.now).counts == Counts()
        bench.fail(times=4)
        assert bench.state == "closed"


class TestOverrides:
    def test_forced_open_refuses_until_its_time_is_up(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=300, reason="maintenance")
        assert bench.admit() == REFUSED
        assert bench.state == "open"
        assert bench.breaker.retry_after(bench.now) == pytest.approx(300)
        override = bench.breaker.stats(bench.now).override
        assert override.mode == "forced_open"
        assert override.reason == "maintenance"
        assert override.until == pytest.approx(bench.clock.wall() + 300)
        bench.clock.advance(300.001)
        assert bench.state == "closed"
        assert bench.breaker.stats(bench.now).override is None
        assert bench.causes == ["forced_open", "override_ended"]
        assert [transition.note for transition in bench.transitions] == ["maintenance", ""]

    def test_a_refusal_is_told_for_as_long_as_it_is_certain(self, bench):
        assert bench.breaker.refusal(bench.now) == 0
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=300)
        assert bench.breaker.refusal(bench.now) == 300
        bench.clock.advance(300)
        assert bench.breaker.refusal(bench.now) == 0
        bench.fail(times=5)
        assert 27 <= bench.breaker.refusal(bench.now) <= 33
        bench.breaker.override(Mode.OBSERVE, bench.now, seconds=300)
        assert bench.breaker.refusal(bench.now) == 0

    def test_the_first_call_after_forced_open_passes(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=10)
        bench.clock.advance(10.001)
        bench.succeed()
        assert bench.breaker.stats(bench.now).counts == Counts(calls=1)

    def test_forced_open_can_be_prolonged_without_a_transition(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=10)
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=100)
        assert bench.causes == ["forced_open"]
        bench.clock.advance(50)
        assert bench.admit() == REFUSED

    def test_forced_closed_lets_every_call_pass_and_counts(self, bench):
        bench.open()
        bench.breaker.override(Mode.FORCED_CLOSED, bench.now, seconds=60, reason="false alarm")
        bench.fail(times=50)
        assert bench.state == "closed"
        assert bench.breaker.stats(bench.now).counts == Counts(50, 50, 0, 50)
        bench.clock.advance(61)
        bench.fail(times=4)
        assert bench.state == "closed"
        bench.fail(times=2)  # the first of the six found the override ended, and was from before that
        assert bench.state == "open"

    def test_forced_closed_ends_without_a_change_of_state(self, bench):
        bench.breaker.override(Mode.FORCED_CLOSED, bench.now, seconds=60)
        bench.clock.advance(61)
        assert bench.breaker.stats(bench.now).override is None
        assert bench.transitions == []

    def test_auto_ends_an_override(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=300)
        bench.breaker.override(Mode.AUTO, bench.now, reason="done")
        assert bench.state == "closed"
        assert bench.transitions[-1].note == "done"
        assert bench.admit() != REFUSED

    def test_auto_without_an_override_changes_nothing(self, bench):
        bench.open()
        bench.breaker.override(Mode.AUTO, bench.now)
        assert bench.state == "open"

    def test_observe_turns_the_circle_and_refuses_nothing(self, bench):
        bench.breaker.override(Mode.OBSERVE, bench.now, seconds=3600)
        bench.open()
        watched = bench.admit()
        assert watched != REFUSED
        bench.fail(watched, times=10)
        assert bench.state == "open"
        bench.clock.advance(30.001)
        probes = [bench.admit() for _ in range(4)]
        assert REFUSED not in probes
        bench.succeed(probes[3])  # not one of the three that count
        for probe in probes[:3]:
            bench.succeed(probe)
        assert bench.state == "closed"
        assert bench.causes == ["failures_in_a_row", "reset_timeout", "probes_succeeded"]

    def test_observe_ends_in_the_state_that_the_circle_has_reached(self, bench):
        bench.breaker.override(Mode.OBSERVE, bench.now, seconds=10)
        bench.open()
        bench.clock.advance(10.001)
        assert bench.admit() == REFUSED
        assert bench.state == "open"

    def test_observe_and_the_open_time_may_end_together(self, bench):
        bench.breaker.override(Mode.OBSERVE, bench.now, seconds=20)
        bench.open()
        bench.clock.advance(100)
        assert bench.state == "half_open"
        assert bench.breaker.stats(bench.now).override is None

    def test_observe_after_forced_open_begins_closed(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=300)
        bench.breaker.override(Mode.OBSERVE, bench.now, seconds=300)
        assert bench.state == "closed"

    def test_an_expired_override_is_told_before_the_next_one(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=10)
        bench.clock.advance(11)
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=10)
        assert bench.causes == ["forced_open", "override_ended", "forced_open"]

    @pytest.mark.parametrize("seconds", [0, -1, 31 * 24 * 3600, float("nan")])
    def test_an_override_needs_a_time_limit(self, bench, seconds):
        with pytest.raises(ValueError, match="time limit"):
            bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=seconds)

    def test_a_long_reason_is_cut_between_characters(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=1, reason="ü" * 59 + "a€" + "x" * 50)
        assert bench.breaker.stats(bench.now).override.reason == "ü" * 59 + "a"

    def test_a_reason_that_is_no_text_is_kept_as_far_as_it_is(self, bench):
        bench.breaker.override(Mode.FORCED_OPEN, bench.now, seconds=1, reason="a\udc80b")
        assert bench.breaker.stats(bench.now).override.reason == "a?b"


class TestTable:
    def test_every_cause_but_start_leads_somewhere(self):
        assert {cause for _, cause in TRANSITIONS} == set(Cause) - {Cause.START}

    def test_overrides_may_come_in_any_state(self):
        for cause in (Cause.FORCED_OPEN, Cause.FORCED_CLOSED, Cause.OVERRIDE_ENDED):
            assert {state for state, by in TRANSITIONS if by is cause} == set(State)

    def test_the_order_of_states_is_the_metrics(self):
        assert STATES == (State.CLOSED, State.HALF_OPEN, State.OPEN)


class TestBesides:
    def test_nobody_needs_to_listen(self):
        breaker = Breaker()
        for _ in range(5):
            breaker.failed(breaker.admit(1.0), 1.0, 0.1)
        assert breaker.admit(1.0) == REFUSED
        assert repr(breaker) == "<Breaker - open auto>"

    def test_new_settings_on_the_old_row_keep_the_state(self, bench):
        bench.open()
        heir = Breaker("heir", BreakerSettings(reset_timeout=1), row=bench.breaker.row, clock=bench.clock)
        assert heir.admit(bench.now) == REFUSED
        bench.clock.advance(30.001)
        assert heir.state(bench.now) == "half_open"
