from __future__ import annotations

import asyncio
from random import Random

import pytest

from sidecar.errors import BulkheadFull, CircuitOpen
from sidecar.retry.decorator import Retry, retry_with_backoff


class Flaky:
    """Fails a number of times, then works."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.calls = 0
        self.error = error or ConnectionError("down")

    def call(self, value: str = "done") -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return value

    async def call_async(self, value: str = "done") -> str:
        await asyncio.sleep(0)
        return self.call(value)


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """Where time would have been spent; nothing sleeps."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("sidecar.retry.decorator._sleep", pauses.append)
    monkeypatch.setattr("sidecar.retry.decorator._sleep_async", pause)
    return pauses


async def test_async_plain_and_lambda(pauses):
    assert await retry_with_backoff(Flaky(2).call_async) == "done"
    assert retry_with_backoff(Flaky(2).call) == "done"
    flaky = Flaky(2)
    assert await retry_with_backoff(lambda: flaky.call_async("ok")) == "ok"
    assert flaky.calls == 3
    assert len(pauses) == 6


def test_pauses_grow_and_are_told(pauses):
    retries = []
    retry_with_backoff(
        Flaky(2).call,
        max_attempts=3,
        initial_delay=0.1,
        multiplier=3,
        jitter=False,
        on_retry=lambda error, attempt, delay: retries.append((str(error), attempt, round(delay, 3))),
    )
    assert retries == [("down", 1, 0.1), ("down", 2, 0.3)]
    assert pauses == pytest.approx([0.1, 0.3])


def test_milliseconds_and_the_other_name_of_the_multiplier(pauses):
    retry_with_backoff(
        Flaky(2).call, initial_delay_ms=100, backoff_multiplier=50, max_delay_ms=1500, jitter=False
    )
    assert pauses == pytest.approx([0.1, 1.5])


def test_jitter_draws_between_zero_and_the_longest(pauses):
    retry_with_backoff(Flaky(9).call, max_attempts=10, initial_delay=1, multiplier=1, random=Random(3))
    assert all(0 <= pause <= 1 for pause in pauses)
    assert len(set(pauses)) == 9


async def test_the_last_error_is_raised(pauses):
    flaky = Flaky(100)
    with pytest.raises(ConnectionError, match="down"):
        await retry_with_backoff(flaky.call_async, max_attempts=4)
    assert (flaky.calls, len(pauses)) == (4, 3)


@pytest.mark.parametrize("error", [CircuitOpen("open"), BulkheadFull("full")])
def test_refusals_are_not_retried(pauses, error):
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        retry_with_backoff(flaky.call)
    assert flaky.calls == 1


def test_retry_on_decides(pauses):
    flaky = Flaky(1)
    with pytest.raises(ConnectionError):
        retry_with_backoff(flaky.call, retry_on=lambda error: isinstance(error, TimeoutError))
    assert flaky.calls == 1


async def test_cancellation_ends_it_during_call_and_pause():
    task = asyncio.create_task(retry_with_backoff(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    flaky = Flaky(100)
    retry = Retry(initial_delay=60, max_delay=60, jitter=False)
    task = asyncio.create_task(retry.execute(flaky.call_async))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flaky.calls == 1


async def test_decorates(pauses):
    retry = Retry(max_attempts=2)
    assert await retry(Flaky(1).call_async)("ok") == "ok"
    assert retry(Flaky(1).call)(value="fine") == "fine"
    assert repr(retry).startswith("<Retry max_attempts=2 Backoff(initial_delay=0.1")


async def test_sleeps_for_real():
    assert await retry_with_backoff(Flaky(1).call_async, initial_delay=0.001) == "done"
    assert retry_with_backoff(Flaky(1).call, initial_delay=0.001) == "done"


def test_there_is_a_first_attempt():
    with pytest.raises(ValueError, match="at least 1"):
        Retry(max_attempts=0)
