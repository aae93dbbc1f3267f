from __future__ import annotations

import pytest

from sidecar.breaker.outcome import Outcome, outcomes_by_status

DEFAULT = outcomes_by_status((502, 503, 504))


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_errors_are_hard_failures(status):
    assert DEFAULT[status] is Outcome.HARD_FAILURE


@pytest.mark.parametrize("status", [429, 500])
def test_500_and_429_count_towards_the_rate(status):
    assert DEFAULT[status] is Outcome.SOFT_FAILURE


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 404, 408, 409, 422, 501, 505, 999])
def test_every_other_answer_is_good(status):
    assert DEFAULT[status] is Outcome.GOOD


def test_statuses_can_be_chosen():
    table = outcomes_by_status((500,))
    assert table[500] is Outcome.HARD_FAILURE
    assert table[503] is Outcome.GOOD
