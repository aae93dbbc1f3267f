from __future__ import annotations

import pytest

from sidecar.bulkhead.adaptive import INITIAL_LIMIT, LOWEST_LIMIT, GradientLimit, LongTermLatency


class Upstream:
    """Works on ``capacity`` calls at once in 10 ms each; beyond that calls queue up."""

    def __init__(self, capacity: int, max_limit: int = 200) -> None:
        self.capacity = capacity
        self.gradient = GradientLimit(max_limit)
        self.limit = self.gradient.limit
        self.now = 100.0

    def serve(self, seconds: int, demand: int = 1000) -> int:
        for _ in range(seconds * 20):
            self.now += 0.05
            in_use = min(demand, self.limit)
            latency = 0.010 * max(1.0, in_use / self.capacity)
            self.limit = self.gradient.observe(self.now, latency, in_use, self.limit)
        return self.limit


def test_grows_while_latency_stays():
    upstream = Upstream(capacity=1000)
    assert upstream.limit == INITIAL_LIMIT
    assert upstream.serve(60) > 60


def test_stops_growing_where_calls_begin_to_queue():
    upstream = Upstream(capacity=50)
    upstream.serve(30)
    upstream.capacity = 25
    settled = upstream.serve(60)
    assert 25 <= settled <= 50


def test_never_leaves_its_bounds():
    upstream = Upstream(capacity=1000, max_limit=40)
    assert upstream.serve(120) == 40
    upstream.capacity = 1
    for _ in range(30):
        upstream.capacity /= 2
        assert upstream.serve(10) >= LOWEST_LIMIT


def test_a_small_upper_bound_is_the_limit():
    upstream = Upstream(capacity=10, max_limit=2)
    assert upstream.limit == 2
    assert upstream.serve(10) == 2


def test_does_not_grow_when_calls_do_not_need_it():
    upstream = Upstream(capacity=1000)
    assert upstream.serve(60, demand=5) == INITIAL_LIMIT


def test_a_second_with_few_samples_says_nothing():
    gradient = GradientLimit(200)
    for second in range(100):
        assert gradient.observe(float(second), 5.0, 20, 20) == 20


def test_another_workers_limit_is_taken_over():
    gradient = GradientLimit(200)
    gradient.observe(1.0, 0.01, 20, 20)
    assert gradient.observe(1.5, 0.01, 20, 33) == 33
    assert gradient.observe(3.0, 0.01, 20, 33) == 33


def test_a_latency_of_zero_is_no_queue():
    gradient = GradientLimit(200)
    limit = 20
    for step in range(100):
        limit = gradient.observe(step * 0.1, 0.0, limit, limit)
    assert limit > 20


def test_the_baseline_starts_as_a_mean_and_then_follows_slowly():
    baseline = LongTermLatency()
    for latency in [0.1, 0.3] * 5:
        baseline.add(latency)
    assert baseline.value == pytest.approx(0.2, rel=0.01)
    baseline.add(10.0)
    assert baseline.value < 0.25


def test_the_baseline_falls_fast_after_an_overload():
    baseline = LongTermLatency()
    for _ in range(10):
        baseline.add(1.0)
    for _ in range(20):
        baseline.add(0.01)
    assert baseline.value < 0.15
