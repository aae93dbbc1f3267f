"""Cells: what a bucket holds, and that reading copies."""

from __future__ import annotations

import pytest

from sidecar.metrics.cells import Counter, Exemplar, Gauge, Histogram


def test_a_counter_and_a_gauge_are_plain_numbers():
    counter, gauge = Counter(), Gauge()
    counter.value += 2
    gauge.value -= 1
    assert (counter.read(), gauge.read()) == (2, -1)


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0, 0), (1, 0), (1.0001, 1), (5, 1), (5.1, 2), (10_000, 2)],
    ids=["zero", "on a bound", "above it", "on the last bound", "above that", "far above"],
)
def test_a_bucket_holds_values_up_to_its_bound(value, bucket):
    histogram = Histogram((1.0, 5.0))
    histogram.observe(value)
    expected = [0, 0, 0]
    expected[bucket] = 1
    assert histogram.counts == expected
    assert histogram.total == value


def test_a_traced_observation_is_the_exemplar_of_its_bucket_and_replaces_an_older_one():
    histogram = Histogram((1.0, 5.0))
    histogram.observe_traced(0.5, "a" * 32, 100.0)
    histogram.observe_traced(0.7, "b" * 32, 101.0)
    histogram.observe_traced(3.0, "c" * 32, 102.0)
    assert histogram.counts == [2, 1, 0]
    assert histogram.exemplars == {0: Exemplar("b" * 32, 0.7, 101.0), 1: Exemplar("c" * 32, 3.0, 102.0)}


def test_what_was_read_does_not_change_with_the_cell():
    histogram = Histogram((1.0,))
    histogram.observe_traced(0.5, "a" * 32, 1.0)
    before = histogram.read()
    histogram.observe_traced(0.6, "b" * 32, 2.0)
    assert before.counts == (1, 0)
    assert before.total == 0.5
    assert before.exemplars[0].trace_id == "a" * 32
