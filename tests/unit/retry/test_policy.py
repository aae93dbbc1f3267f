from __future__ import annotations

import math

import pytest

from sidecar.retry.backoff import Backoff
from sidecar.retry.budget import RetryBudget
from sidecar.retry.policy import FailedAttempt, Failure, RetryPolicy, Skip, is_repeatable

POLICY = RetryPolicy(backoff=Backoff(jitter=False))
REPEATABLE = [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"]
OTHERS = [b"POST", b"PATCH", b"PROPFIND", b"get"]


def decide(failure: Failure, method: bytes = b"GET", *, number: int = 1, **facts):
    budget = RetryBudget()
    verdict = POLICY.decide(FailedAttempt(failure=failure, number=number, method=method, **facts), budget)
    assert budget.retries == (verdict.skip is None)
    return verdict


class TestTable:
    """Section by section, the table of what is safe to send again."""

    @pytest.mark.parametrize("method", REPEATABLE + OTHERS)
    def test_nothing_written_is_retried_with_any_method(self, method):
        assert decide(Failure.NOT_SENT, method).skip is None

    @pytest.mark.parametrize("failure", [Failure.NO_RESPONSE, Failure.RETRYABLE_STATUS])
    @pytest.mark.parametrize("method", REPEATABLE)
    def test_written_is_retried_with_repeatable_methods(self, failure, method):
        assert decide(failure, method).skip is None

    @pytest.mark.parametrize("failure", [Failure.NO_RESPONSE, Failure.RETRYABLE_STATUS])
    @pytest.mark.parametrize("method", OTHERS)
    def test_written_is_not_retried_with_others(self, failure, method):
        assert decide(failure, method).skip is Skip.METHOD

    @pytest.mark.parametrize("failure", [Failure.NO_RESPONSE, Failure.RETRYABLE_STATUS])
    @pytest.mark.parametrize("method", [b"POST", b"PATCH"])
    def test_an_upstream_that_dedupes_makes_post_and_patch_repeatable(self, failure, method):
        assert decide(failure, method, upstream_dedupes=True).skip is None
        assert decide(failure, method, upstream_dedupes=True, keyed=True).skip is None

    def test_even_then_unknown_methods_are_not(self):
        assert decide(Failure.NO_RESPONSE, b"PROPFIND", upstream_dedupes=True).skip is Skip.METHOD

    @pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
    def test_a_keyed_request_counts_as_post(self, method):
        assert decide(Failure.NO_RESPONSE, method, keyed=True).skip is Skip.METHOD
        assert decide(Failure.NOT_SENT, method, keyed=True).skip is None
        assert decide(Failure.NO_RESPONSE, method, keyed=True, upstream_dedupes=True).skip is None

    @pytest.mark.parametrize("method", [b"GET", b"DELETE"])
    def test_a_key_on_other_methods_means_nothing(self, method):
        assert is_repeatable(method, keyed=True, upstream_dedupes=False)

    @pytest.mark.parametrize(
        ("failure", "skip"),
        [
            (Failure.SERVER_ERROR, Skip.SERVER_ERROR),
            (Failure.RESPONSE_BEGUN, Skip.RESPONSE_BEGUN),
            (Failure.UPGRADE, Skip.UPGRADE),
            (Failure.BREAKER_OPEN, Skip.BREAKER_OPEN),
        ],
    )
    def test_never(self, failure, skip):
        assert decide(failure, b"GET", upstream_dedupes=True).skip is skip

    @pytest.mark.parametrize("failure", [Failure.NOT_SENT, Failure.NO_RESPONSE, Failure.RETRYABLE_STATUS])
    def test_a_body_that_is_not_at_hand_cannot_be_sent_again(self, failure):
        assert decide(failure, b"PUT", replayable=False).skip is Skip.BODY


class TestWhen:
    def test_the_backoff_says_when(self):
        assert decide(Failure.NOT_SENT).delay == pytest.approx(0.1)
        assert decide(Failure.NOT_SENT, number=2).delay == pytest.approx(0.2)

    def test_attempts_are_counted_with_the_first(self):
        assert decide(Failure.NOT_SENT, number=3).skip is Skip.ATTEMPTS

    def test_a_pause_beyond_the_deadline_is_not_begun(self):
        assert decide(Failure.NOT_SENT, remaining=0.1).skip is Skip.DEADLINE
        assert decide(Failure.NOT_SENT, remaining=0.11).skip is None

    def test_retry_after_is_honoured_when_it_fits(self):
        assert decide(Failure.RETRYABLE_STATUS, retry_after=5.0, remaining=10).delay == 5.0
        assert decide(Failure.RETRYABLE_STATUS, retry_after=0.0, remaining=10).delay == pytest.approx(0.1)

    def test_else_the_response_is_passed_on(self):
        assert decide(Failure.RETRYABLE_STATUS, retry_after=10.0, remaining=10).skip is Skip.RETRY_AFTER

    def test_without_a_deadline_a_minute_is_the_most(self):
        assert decide(Failure.RETRYABLE_STATUS, retry_after=59.0).delay == 59
        assert (
            decide(Failure.RETRYABLE_STATUS, retry_after=86400.0, remaining=math.inf).skip is Skip.RETRY_AFTER
        )

    def test_an_exhausted_budget_is_the_last_word(self):
        budget = RetryBudget(0, 0)
        attempt = FailedAttempt(failure=Failure.NOT_SENT, number=1, method=b"GET")
        assert POLICY.decide(attempt, budget).skip is Skip.BUDGET

    def test_there_is_a_first_attempt(self):
        with pytest.raises(ValueError, match="at least 1"):
            RetryPolicy(max_attempts=0)
