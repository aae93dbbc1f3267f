"""The benchmark's own arithmetic: a wrong verdict is worse than none."""

from __future__ import annotations

import operator

import pytest

from bench.figures import Row, Spread, by_round, difference_row, percentile, ratio_row, value_row


def test_spread_is_median_lowest_and_highest():
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(middle=3.0, low=1.0, high=10.0)


def test_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one round at least"):
        Spread.of([])


def test_rounds_are_compared_pairwise_so_a_slow_moment_cancels_out():
    # In the second round the machine was twice as slow for both.
    assert by_round([10.0, 20.0, 10.0], [20.0, 40.0, 20.0], operator.truediv) == Spread(0.5, 0.5, 0.5)


def test_uneven_rounds_are_refused():
    with pytest.raises(ValueError, match="got 1 and 2"):
        by_round([1.0], [1.0, 2.0], operator.truediv)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_percentile_is_the_nearest_rank(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one value at least"):
        percentile([], 0.5)


@pytest.mark.parametrize(("limit", "met"), [(0.5, True), (0.49, False), (None, None)])
def test_a_ratio_is_judged_by_its_median(limit, met):
    row = ratio_row("c", "w", "µs", ours=[10, 5, 12], against="peer", theirs=[20, 20, 20], limit=limit)
    assert row.compared == Spread(0.5, 0.25, 0.6)
    assert row.met is met


@pytest.mark.parametrize(("limit", "met"), [(5, True), (4, False)])
def test_a_difference_is_judged_by_its_median(limit, met):
    row = difference_row("c", "w", "µs", ours=[15, 30, 14], against="plain", theirs=[10, 10, 10], limit=limit)
    assert row.compared == Spread(5, 4, 20)
    assert row.met is met


@pytest.mark.parametrize(("limit", "met"), [(0.5, True), (0.39, False), (None, None)])
def test_a_value_is_judged_by_its_median(limit, met):
    assert value_row("c", "w", "s", [0.4, 0.3, 0.9], limit).met is met


def test_a_value_beside_anothers_is_judged_alone():
    row = Row("c", "w", "KiB", Spread.of([5.0]), "peer", Spread.of([17.0]), limit=8)
    assert row.met is True
