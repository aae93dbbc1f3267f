"""Retries for functions."""

from __future__ import annotations

import asyncio
import inspect
import time
from functools import partial
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack, cast

from sidecar import calling
from sidecar.errors import BulkheadFull, CircuitOpen
from sidecar.retry.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULTS = Backoff()
_RANDOM = SystemRandom()
_sleep = time.sleep
_sleep_async = asyncio.sleep


def worth_retrying(error: Exception) -> bool:
    """Whether another attempt may do better: not where a breaker or a bulkhead has refused this one."""
    return not isinstance(error, CircuitOpen | BulkheadFull)


class Retry:
    """Calls again what has failed, with exponential backoff and full jitter.

    Only you know whether a second call does harm: guard functions that may be called twice.

    Args:
        max_attempts: Calls in all, the first included, at least 1.
        initial_delay: Longest pause before the first retry, in seconds.
        multiplier: By what the longest pause grows with each retry.
        max_delay: What it grows to at most, in seconds.
        jitter: Draw each pause at random between zero and its longest.
        retry_on: Whether an exception is worth another attempt; by default all are, but the refusals of
            breakers and bulkheads.
        on_retry: Called with the exception, the number of the attempt that failed, and the pause in seconds.
        random: For the jitter.
        initial_delay_ms: ``initial_delay`` in milliseconds.
        max_delay_ms: ``max_delay`` in milliseconds.
        backoff_multiplier: Another name of ``multiplier``.

    Raises:
        ValueError: A value is out of its range.
    """

    __slots__ = ("_backoff", "_max_attempts", "_on_retry", "_random", "_retry_on")

    def __init__(
        self,
        *,
        max_attempts: int = 3,
        initial_delay: float = _DEFAULTS.initial_delay,
        multiplier: float = _DEFAULTS.multiplier,
        max_delay: float = _DEFAULTS.max_delay,
        jitter: bool = _DEFAULTS.jitter,
        retry_on: Callable[[Exception], bool] = worth_retrying,
        on_retry: Callable[[Exception, int, float], object] | None = None,
        random: Random = _RANDOM,
        initial_delay_ms: float | None = None,
        max_delay_ms: float | None = None,
        backoff_multiplier: float | None = None,
    ) -> None:
        if max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {max_attempts}")
        self._max_attempts = max_attempts
        self._backoff = Backoff(
            initial_delay=initial_delay if initial_delay_ms is None else initial_delay_ms / 1000,
            multiplier=multiplier if backoff_multiplier is None else backoff_multiplier,
            max_delay=max_delay if max_delay_ms is None else max_delay_ms / 1000,
            jitter=jitter,
        )
        self._retry_on = retry_on
        self._on_retry = on_retry
        self._random = random

    def __repr__(self) -> str:
        return f"<Retry max_attempts={self._max_attempts} {self._backoff}>"

    def execute(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn`` until it succeeds; for an async function the result is to be awaited.

        Raises:
            Exception: What the last attempt raised.
        """
        call: Callable[[], Any] = partial(fn, *args, **kwargs)
        if calling.is_async(fn):
            return cast("R", self._call_async(call, attempt=1))
        return cast("R", self._call(call))

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``fn``: every call of it goes through :meth:`execute`."""
        return calling.decorate(self.execute, fn)

    def _call(self, call: Callable[[], Any]) -> Any:
        attempt = 1
        while True:
            try:
                result = call()
            except Exception as error:
                pause = self._pause(error, attempt)
                if pause is None:
                    raise
            else:
                return self._call_async(call, attempt, result) if inspect.isawaitable(result) else result
            _sleep(pause)
            attempt += 1

    async def _call_async(
        self, call: Callable[[], Awaitable[Any]], attempt: int, begun: Awaitable[Any] | None = None
    ) -> Any:
        while True:
            try:
                return await (call() if begun is None else begun)
            except Exception as error:
                pause = self._pause(error, attempt)
                if pause is None:
                    raise
            await _sleep_async(pause)
            begun = None
            attempt += 1

    def _pause(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt, or ``None`` if there shall be none."""
        if attempt >= self._max_attempts or not self._retry_on(error):
            return None
        pause = self._backoff.delay(attempt, self._random)
        if self._on_retry is not None:
            self._on_retry(error, attempt, pause)
        return pause


class RetryOptions(TypedDict, total=False):
    """The options of :class:`Retry`."""

    max_attempts: int
    initial_delay: float
    multiplier: float
    max_delay: float
    jitter: bool
    retry_on: Callable[[Exception], bool]
    on_retry: Callable[[Exception, int, float], object] | None
    random: Random
    initial_delay_ms: float | None
    max_delay_ms: float | None
    backoff_multiplier: float | None


def retry_with_backoff(fn: Callable[[], R], **options: Unpack[RetryOptions]) -> R:
    """Call ``fn`` until it succeeds; for an async function the result is to be awaited.

    Args:
        fn: A plain or async function without arguments.
        **options: Those of :class:`Retry`.

    Raises:
        Exception: What the last attempt raised.
    """
    return Retry(**options).execute(fn)
