"""Checked by mypy, never run: the resilience decorators keep the signatures of what they decorate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.bulkhead.decorator import Bulkhead
from sidecar.resilient import ResilientStats, resilient
from sidecar.retry.decorator import Retry, retry_with_backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

breaker = CircuitBreaker(name="payments", on_state_change=lambda before, after: print(f"{before} -> {after}"))
bulkhead = Bulkhead(name="payments", max_concurrent=10)
retry = Retry(max_attempts=3)


@breaker
@retry
@bulkhead
async def charge(amount: int, *, currency: str = "EUR") -> str:
    return f"{amount} {currency}"


@resilient(retry={"max_attempts": 2}, timeout=5)
async def refund(amount: int) -> float:
    return float(amount)


@breaker
def round_up(amount: float) -> int:
    return int(amount) + 1


async def results() -> None:
    assert_type(await charge(1, currency="USD"), str)
    assert_type(await refund(1), float)
    assert_type(await refund.execute(1), float)
    assert_type(refund.stats(), ResilientStats)
    assert_type(round_up(1.5), int)
    assert_type(await breaker.execute(charge, 1, currency="USD"), str)
    assert_type(breaker.execute(round_up, 1.5), int)
    assert_type(await retry_with_backoff(lambda: charge(1), max_attempts=2, jitter=False), str)
    assert_type(resilient(round_up)(1.5), int)
    async with breaker as entered, bulkhead:
        assert_type(entered, CircuitBreaker)


same: Callable[[float], int] = bulkhead(round_up)
coroutine: Coroutine[Any, Any, str] = charge(1)


async def mistakes() -> None:
    await charge("1")  # type: ignore[arg-type]
    await charge(1, money="USD")  # type: ignore[call-arg]
    await refund()  # type: ignore[call-arg]
    breaker.execute(round_up, "1.5")  # type: ignore[arg-type]
    await retry_with_backoff(lambda: charge(1), attempts=2)  # type: ignore[call-arg]
    CircuitBreaker(reset_timeout="30s")  # type: ignore[arg-type]
