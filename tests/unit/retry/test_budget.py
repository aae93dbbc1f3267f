from __future__ import annotations

from contextlib import nullcontext

import pytest

from sidecar.retry.budget import OWN_CELLS, RetryBudget
from sidecar.scoreboard.row import Row


def test_three_retries_are_always_allowed():
    budget = RetryBudget()
    assert [budget.try_retry() for _ in range(4)] == [True, True, True, False]
    budget.retry_ended()
    assert budget.try_retry()


def test_more_requests_allow_more_retries():
    budget = RetryBudget()
    for _ in range(50):
        budget.request_started()
    assert sum(budget.try_retry() for _ in range(50)) == 10
    for _ in range(50):
        budget.request_ended()
    assert budget.allowed == 3
    assert not budget.try_retry()


def test_share_and_minimum_may_be_chosen():
    budget = RetryBudget(0.5, 0)
    assert not budget.try_retry()
    budget.request_started()
    budget.request_started()
    assert [budget.try_retry(), budget.try_retry()] == [True, False]


def test_the_budget_is_one_for_all_workers():
    cells = [0] * (1 + 2 * OWN_CELLS)
    everyone = (1, 1 + OWN_CELLS)
    first, second = [
        RetryBudget(row=Row(cells, lock=nullcontext(), mine=mine, everyone=everyone)) for mine in everyone
    ]
    for _ in range(10):
        first.request_started()
        second.request_started()
    assert [first.try_retry(), second.try_retry(), first.try_retry(), second.try_retry()] == [True] * 4
    assert not first.try_retry()
    assert second.active == 20
    assert repr(second) == "<RetryBudget 4/4 retries, 20 active>"


@pytest.mark.parametrize(("share", "minimum"), [(-0.1, 3), (1.1, 3), (0.2, -1)])
def test_values_out_of_range_are_refused(share, minimum):
    with pytest.raises(ValueError, match="share from 0 to 1"):
        RetryBudget(share, minimum)


def test_an_upstream_that_fails_everything_sees_at_most_a_quarter_more():
    """One step is the time of an attempt: 100 requests start in each, and all attempts fail."""
    budget = RetryBudget()
    firsts = retries = 0
    retrying = 0
    for _ in range(200):
        for _ in range(100):
            budget.request_started()
        firsts += 100
        for _ in range(retrying):
            budget.retry_ended()
            budget.request_ended()
        retrying = sum(budget.try_retry() for _ in range(100))
        retries += retrying
        for _ in range(100 - retrying):
            budget.request_ended()
    assert (firsts + retries) / firsts <= 1.25
    assert retries > 0.15 * firsts
