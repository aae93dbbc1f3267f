from __future__ import annotations

import asyncio
import inspect

import pytest

from sidecar.breaker.decorator import CircuitBreaker, CircuitOpenError
from sidecar.bulkhead.decorator import Bulkhead
from sidecar.errors import BulkheadFull
from sidecar.resilient import resilient
from sidecar.retry.decorator import Retry

NO_PAUSE = {"initial_delay": 0, "max_delay": 0}


class Service:
    def __init__(self, failures: int = 0, hangs: int = 0) -> None:
        self.failures = failures
        self.hangs = hangs
        self.calls = 0

    async def submit(self, data: str) -> str:
        self.calls += 1
        if self.calls <= self.hangs:
            await asyncio.Event().wait()
        if self.calls <= self.hangs + self.failures:
            raise ConnectionError("down")
        return data.upper()


async def test_the_seeds_form():
    service = Service(failures=2)
    resilient_call = resilient(
        lambda data: service.submit(data),  # noqa: PLW0108 - as a seed user writes it
        circuit_breaker={"name": "external-service", "failure_threshold": 5},
        retry={"max_attempts": 3, "initial_delay_ms": 0},
        bulkhead={"name": "external-service", "max_concurrent": 10},
        timeout_ms=5000,
    )
    assert await resilient_call.execute("data") == "DATA"
    stats = resilient_call.stats()
    assert (stats.calls, stats.succeeded, stats.failed, stats.attempts) == (1, 1, 0, 3)
    assert (stats.circuit_breaker.state, stats.circuit_breaker.counts.failures) == ("closed", 2)
    assert (stats.bulkhead.in_use, stats.bulkhead.limit) == (0, 10)


async def test_as_a_decorator():
    service = Service(failures=1)

    @resilient(retry=NO_PAUSE)
    async def submit(data: str) -> str:
        """Send it."""
        return await service.submit(data)

    assert await submit("x") == "X"
    assert await submit.execute("y") == "Y"
    assert (submit.__name__, submit.__doc__) == ("submit", "Send it.")
    assert inspect.iscoroutinefunction(submit)
    assert submit.stats().attempts == 3


def test_a_plain_function():
    @resilient(circuit_breaker={"failure_threshold": 1}, bulkhead={}, retry={"max_attempts": 2, **NO_PAUSE})
    def divide(a: int, b: int) -> float:
        return a / b

    assert divide(6, 3) == 2
    # The first attempt opens the breaker, and what it refuses is not tried again.
    with pytest.raises(CircuitOpenError):
        divide(1, 0)
    stats = divide.stats()
    assert (stats.calls, stats.succeeded, stats.failed, stats.attempts) == (2, 1, 1, 2)


async def test_the_timeout_is_each_attempts():
    service = Service(hangs=2)
    submit = resilient(service.submit, retry=NO_PAUSE, timeout=0.01)
    assert await submit("x") == "X"
    assert service.calls == 3


async def test_the_total_timeout_is_the_calls():
    service = Service(hangs=100)
    submit = resilient(service.submit, retry=NO_PAUSE, total_timeout=0.01)
    with pytest.raises(TimeoutError):
        await submit("x")
    assert service.calls == 1
    assert submit.stats().failed == 1


async def test_a_timeout_opens_the_breaker():
    submit = resilient(Service(hangs=9).submit, circuit_breaker={"failure_threshold": 1}, timeout=0.001)
    with pytest.raises(TimeoutError):
        await submit("x")
    with pytest.raises(CircuitOpenError):
        await submit("x")


async def test_cancellation_frees_everything_and_counts_for_nothing():
    bulkhead, breaker = Bulkhead(max_concurrent=1), CircuitBreaker()
    submit = resilient(Service(hangs=1).submit, bulkhead=bulkhead, circuit_breaker=breaker, retry=Retry())
    task = asyncio.create_task(submit("x"))
    await asyncio.sleep(0.001)
    assert bulkhead.stats().in_use == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stats = submit.stats()
    assert (stats.calls, stats.succeeded, stats.failed) == (1, 0, 0)
    assert stats.bulkhead.in_use == stats.circuit_breaker.counts.calls == 0


async def test_the_bulkhead_holds_one_permit_for_all_attempts():
    bulkhead = Bulkhead(max_concurrent=1, max_queue=0)
    service = Service(failures=2)
    submit = resilient(service.submit, bulkhead=bulkhead, retry={"jitter": False, "initial_delay": 0.001})
    first = asyncio.create_task(submit("x"))
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull):
        await submit("y")
    assert await first == "X"


def test_a_plain_function_cannot_have_a_timeout():
    with pytest.raises(TypeError, match="nothing to await"):
        resilient(len, timeout=1)("abc")


@pytest.mark.parametrize("options", [{"timeout": 0}, {"total_timeout": -1}, {"timeout_ms": 0}])
def test_timeouts_are_checked(options):
    with pytest.raises(ValueError, match="must be above 0 seconds"):
        resilient(**options)
