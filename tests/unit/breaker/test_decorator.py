from __future__ import annotations

import asyncio
import threading

import pytest

from sidecar.breaker.decorator import CircuitBreaker, CircuitOpenError
from sidecar.breaker.states import Mode
from sidecar.clock import ManualClock
from sidecar.errors import CircuitOpen


class Gateway:
    """A service that works or does not."""

    def __init__(self) -> None:
        self.works = True
        self.calls = 0

    async def charge(self, amount: int) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        return self.charge_now(amount)

    def charge_now(self, amount: int) -> int:
        if not self.works:
            raise ConnectionError("down")
        return amount


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def make(clock: ManualClock, **options) -> CircuitBreaker:
    return CircuitBreaker("payment-gateway", clock=clock, **options)


async def open_it(breaker: CircuitBreaker, gateway: Gateway) -> None:
    gateway.works = False
    for _ in range(5):
        with pytest.raises(ConnectionError):
            await breaker.execute(gateway.charge, 1)


async def test_opens_fails_fast_and_closes(clock, gateway):
    changes = []
    breaker = make(
        clock,
        failure_threshold=5,
        success_threshold=3,
        reset_timeout=30,
        on_state_change=lambda before, after: changes.append(f"{before} -> {after}"),
    )
    assert await breaker.execute(lambda: gateway.charge(7)) == 7
    await open_it(breaker, gateway)
    assert breaker.state == "open"
    calls = gateway.calls
    with pytest.raises(CircuitOpenError) as refused:
        await breaker.execute(gateway.charge, 1)
    assert gateway.calls == calls
    assert type(refused.value).__name__ == "CircuitOpenError"
    assert isinstance(refused.value, CircuitOpen)
    assert 27 <= refused.value.retry_after <= 33
    clock.advance(refused.value.retry_after + 0.001)
    gateway.works = True
    for _ in range(3):
        await breaker.execute(gateway.charge, 1)
    assert breaker.state == "closed"
    assert changes == ["closed -> open", "open -> half_open", "half_open -> closed"]


async def test_every_form_guards_the_same_breaker(clock, gateway):
    breaker = make(clock)
    gateway.works = False
    decorated = breaker(gateway.charge)
    decorated_plain = breaker(gateway.charge_now)
    with pytest.raises(ConnectionError):
        await decorated(1)
    with pytest.raises(ConnectionError):
        decorated_plain(1)
    with pytest.raises(ConnectionError):
        async with breaker:
            await gateway.charge(1)
    with pytest.raises(ConnectionError), breaker:
        gateway.charge_now(1)
    with pytest.raises(ConnectionError):
        breaker.execute(gateway.charge_now, 1)
    assert breaker.stats().counts.failures == 5
    for refused in (lambda: decorated_plain(1), breaker.__enter__):
        with pytest.raises(CircuitOpenError):
            refused()
    with pytest.raises(CircuitOpenError):
        await decorated(1)
    with pytest.raises(CircuitOpenError):
        await breaker.__aenter__()


async def test_cancelled_probes_give_their_permits_back(clock, gateway):
    breaker = make(clock)
    await open_it(breaker, gateway)
    clock.advance(40)
    probes = [asyncio.create_task(breaker.execute(asyncio.Event().wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(CircuitOpenError) as refused:
        await breaker.execute(gateway.charge, 1)
    assert refused.value.retry_after == 1
    for probe in probes:
        probe.cancel()
    await asyncio.wait(probes)
    gateway.works = True
    for _ in range(3):
        await breaker.execute(gateway.charge, 1)
    assert breaker.state == "closed"


def test_what_is_no_failure_counts_as_success(clock):
    breaker = make(clock, is_failure=lambda error: not isinstance(error, ValueError))
    for _ in range(10):
        with pytest.raises(ValueError, match="invalid"):
            breaker.execute(int, "x")
    assert breaker.stats().counts.calls == 10
    assert breaker.stats().counts.failures == 0
    with pytest.raises(ZeroDivisionError):
        breaker.execute(divmod, 1, 0)
    assert breaker.stats().counts.failures == 1


def test_slow_calls_open_it(clock):
    breaker = make(clock, slow_call=1.0, minimum_calls=2)
    for _ in range(2):
        breaker.execute(clock.advance, 2)
    assert breaker.stats().reason == "slow_calls"


def test_a_callback_that_fails_does_not_fail_the_call(clock, caplog):
    def broken(before, after):
        raise RuntimeError("callback")

    breaker = make(clock, failure_threshold=1, on_state_change=broken)
    with pytest.raises(ZeroDivisionError):
        breaker.execute(divmod, 1, 0)
    assert "on_state_change of circuit breaker payment-gateway failed" in caplog.text


def test_can_be_overridden(clock):
    breaker = make(clock)
    breaker.override(Mode.FORCED_OPEN, seconds=60, reason="maintenance")
    assert repr(breaker) == "<CircuitBreaker payment-gateway open>"
    with pytest.raises(CircuitOpenError, match="Circuit payment-gateway is open for 60 s"):
        breaker.execute(len, "x")


def test_milliseconds_are_refused():
    with pytest.raises(ValueError, match="divided by 1000"):
        CircuitBreaker(name="x", reset_timeout=30000)


def test_threads_lose_no_failure(clock):
    breaker = make(clock, failure_threshold=100_000, failure_rate=None)

    def hammer():
        for _ in range(500):
            with pytest.raises(ZeroDivisionError):
                breaker.execute(divmod, 1, 0)

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.stats().counts.failures_in_a_row == 4000
