"""Breaker, retry, bulkhead and timeout around one function.

From the outside in: the bulkhead takes one permit for the whole call; the retry repeats what is inside it;
the breaker sees every attempt; the timeout bounds each of them. ``total_timeout`` bounds the whole, waiting
included.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.bulkhead.decorator import Bulkhead, BulkheadStats
from sidecar.calling import NotBegun, Policy, decorate
from sidecar.retry.decorator import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.breaker.states import BreakerStats

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class ResilientStats:
    """What has become of the calls of one resilient function.

    Attributes:
        calls: Calls begun.
        succeeded: Calls that returned.
        failed: Calls that raised, refusals included. Cancelled ones are in neither.
        attempts: How often the function itself was called.
        circuit_breaker: The breaker now, if there is one.
        bulkhead: The bulkhead now, if there is one.
    """

    calls: int
    succeeded: int
    failed: int
    attempts: int
    circuit_breaker: BreakerStats | None
    bulkhead: BulkheadStats | None


class ResilientFunction(Protocol[P, R_co]):
    """A guarded function: call it like the one that it guards."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function under its policies."""
        ...

    @property
    def execute(self) -> Callable[P, R_co]:
        """The same as calling it."""
        ...

    @property
    def stats(self) -> Callable[[], ResilientStats]:
        """What has become of its calls."""
        ...


@overload
def resilient(
    fn: None = None,
    *,
    circuit_breaker: CircuitBreaker | Mapping[str, Any] | None = None,
    retry: Retry | Mapping[str, Any] | None = None,
    bulkhead: Bulkhead | Mapping[str, Any] | None = None,
    timeout: float | None = None,
    total_timeout: float | None = None,
    timeout_ms: float | None = None,
) -> Callable[[Callable[P, R]], ResilientFunction[P, R]]: ...


@overload
def resilient(
    fn: Callable[P, R],
    *,
    circuit_breaker: CircuitBreaker | Mapping[str, Any] | None = None,
    retry: Retry | Mapping[str, Any] | None = None,
    bulkhead: Bulkhead | Mapping[str, Any] | None = None,
    timeout: float | None = None,
    total_timeout: float | None = None,
    timeout_ms: float | None = None,
) -> ResilientFunction[P, R]: ...


def resilient(
    fn: Callable[..., Any] | None = None,
    *,
    circuit_breaker: CircuitBreaker | Mapping[str, Any] | None = None,
    retry: Retry | Mapping[str, Any] | None = None,
    bulkhead: Bulkhead | Mapping[str, Any] | None = None,
    timeout: float | None = None,
    total_timeout: float | None = None,
    timeout_ms: float | None = None,
) -> Any:
    """Guard a function, directly or as a decorator.

    ::

        submit = resilient(client.submit, circuit_breaker={"name": "external-service"}, timeout=5)

        @resilient(retry={"max_attempts": 5}, bulkhead=Bulkhead(max_concurrent=10))
        async def submit(data): ...

        await submit(data)
        submit.stats()

    Args:
        fn: A plain or async function.
        circuit_breaker: A breaker, which several functions may share, or the options of a new one.
        retry: A retry, or the options of a new one.
        bulkhead: A bulkhead, which several functions may share, or the options of a new one.
        timeout: Seconds for each attempt. A function under a timeout must give something to await, as a
            plain one cannot be interrupted.
        total_timeout: Seconds for the whole call, with its retries and waits. The same holds.
        timeout_ms: ``timeout`` in milliseconds.

    Raises:
        ValueError: An option is out of its range.
    """
    policies = _Policies(
        circuit_breaker=_made(CircuitBreaker, circuit_breaker),
        retry=_made(Retry, retry),
        bulkhead=_made(Bulkhead, bulkhead),
        timeout=_positive("timeout", timeout if timeout_ms is None else timeout_ms / 1000),
        total_timeout=_positive("total_timeout", total_timeout),
    )
    return policies.guard if fn is None else policies.guard(fn)


T = TypeVar("T")


def _made(kind: Callable[..., T], given: T | Mapping[str, Any] | None) -> T | None:
    return kind(**given) if isinstance(given, Mapping) else given


def _positive(name: str, seconds: float | None) -> float | None:
    if seconds is not None and seconds <= 0:
        raise ValueError(f"{name} must be above 0 seconds, got {seconds}")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policies:
    circuit_breaker: CircuitBreaker | None
    retry: Retry | None
    bulkhead: Bulkhead | None
    timeout: float | None
    total_timeout: float | None

    def guard(self, fn: Callable[P, R]) -> ResilientFunction[P, R]:
        """Put every policy around ``fn``, the innermost first."""
        calls, attempts = _Tally(), _Tally()
        guarded = attempts(fn)
        if self.timeout is not None:
            guarded = _within(self.timeout, guarded)
        for policy in (self.circuit_breaker, self.retry, self.bulkhead):
            if policy is not None:
                guarded = policy(guarded)
        if self.total_timeout is not None:
            guarded = _within(self.total_timeout, guarded)
        resilient_fn: Any = calls(guarded)
        resilient_fn.execute = resilient_fn
        resilient_fn.stats = partial(self._stats, calls, attempts)
        return cast("ResilientFunction[P, R]", resilient_fn)

    def _stats(self, calls: _Tally, attempts: _Tally) -> ResilientStats:
        return ResilientStats(
            calls=calls.begun,
            succeeded=calls.succeeded,
            failed=calls.failed,
            attempts=attempts.begun,
            circuit_breaker=self.circuit_breaker.stats() if self.circuit_breaker else None,
            bulkhead=self.bulkhead.stats() if self.bulkhead else None,
        )


class _Tally(Policy):
    """A policy that lets every call pass and counts it."""

    __slots__ = ("begun", "failed", "succeeded")

    def __init__(self) -> None:
        self.begun = self.succeeded = self.failed = 0

    def begin(self) -> None:
        self.begun += 1

    def end(self, call: None, error: BaseException | None) -> None:  # noqa: ARG002 - begin returns nothing
        if error is None:
            self.succeeded += 1
        elif isinstance(error, Exception):
            self.failed += 1
        elif isinstance(error, NotBegun):
            self.begun -= 1


def _within(seconds: float, fn: Callable[P, R]) -> Callable[P, R]:
    """``fn`` under a time limit."""

    async def wait(awaitable: Awaitable[Any]) -> Any:
        async with asyncio.timeout(seconds):
            return await awaitable

    def execute(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        if inspect.isawaitable(result):
            return wait(result)
        raise TypeError(f"a timeout needs an async function: {fn!r} returned {result!r}, nothing to await")

    return decorate(execute, fn)
