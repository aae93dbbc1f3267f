from __future__ import annotations

import pytest

from sidecar.clock import ManualClock
from sidecar.workers.restarts import MOST_FAILED_STARTS, STEADY_SECONDS, Restarts


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def restarts(clock):
    return Restarts(clock)


def live(restarts, clock, seconds, *, ready=True):
    """A process of so many seconds; what is decided at its end."""
    restarts.began()
    if ready:
        restarts.ready()
    clock.advance(seconds)
    return restarts.ended()


def test_a_process_that_ran_for_long_is_replaced_at_once(restarts, clock):
    assert live(restarts, clock, STEADY_SECONDS) == 0.0


def test_pauses_grow_while_lives_are_short_and_have_a_bound(restarts, clock):
    pauses = [live(restarts, clock, 1.0) for _ in range(9)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 5.0


def test_a_long_life_makes_up_for_short_ones(restarts, clock):
    for _ in range(3):
        live(restarts, clock, 1.0)
    live(restarts, clock, STEADY_SECONDS)
    assert live(restarts, clock, 1.0) == 0.1


def test_the_fifth_start_in_a_row_that_fails_is_the_last(restarts, clock):
    decisions = [live(restarts, clock, 0.1, ready=False) for _ in range(MOST_FAILED_STARTS)]
    assert decisions == [0.1, 0.2, 0.4, 0.8, None]


def test_a_slow_start_that_fails_counts_too(restarts, clock):
    decisions = [live(restarts, clock, 60.0, ready=False) for _ in range(MOST_FAILED_STARTS)]
    assert decisions == [0.0] * 4 + [None]


def test_one_that_served_interrupts_the_row(restarts, clock):
    for _ in range(MOST_FAILED_STARTS - 1):
        live(restarts, clock, 0.1, ready=False)
    assert live(restarts, clock, 0.1) is not None
    assert live(restarts, clock, 0.1, ready=False) is not None
