"""The circuit breaker for functions."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from sidecar.breaker.core import REFUSED, Breaker
from sidecar.breaker.layout import COMMON_CELLS, OWN_CELLS
from sidecar.breaker.settings import BreakerSettings
from sidecar.calling import Policy
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.errors import CircuitOpen
from sidecar.scoreboard.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.breaker.states import BreakerStats, Mode, State, Transition

_DEFAULTS = BreakerSettings()
_log = logging.getLogger(__name__)


class CircuitOpenError(CircuitOpen):
    """The call was not made, because the circuit is open.

    Attributes:
        retry_after: Seconds after which a call may be let through.
    """

    retry_after: float


class CircuitBreaker(Policy):
    """Stops calling what keeps failing.

    Every form guards the same breaker::

        breaker = CircuitBreaker(name="payment-gateway", failure_threshold=5)

        result = await breaker.execute(gateway.charge, amount)

        @breaker
        async def charge(amount): ...

        async with breaker:
            ...

    Plain functions and ``with`` work as well, from any number of threads. While the circuit is open, all of
    them raise :class:`CircuitOpenError` instead of making the call. A call that is cancelled counts for
    nothing.

    Args:
        name: For messages, statistics and ``repr``.
        failure_threshold: Failures in a row that open the circuit.
        success_threshold: Probes that must succeed to close it, and the most that are made at once.
        reset_timeout: Seconds that it stays open, ±10 %; doubles up to two minutes while probes fail.
        failure_rate: Share of failed calls in ``window`` that opens it; ``None`` for never.
        window: Seconds.
        minimum_calls: Calls in ``window`` below which no rate counts.
        slow_call: Seconds beyond which a call is slow; ``None`` if no call is.
        slow_rate: Share of slow calls in ``window`` that opens it.
        is_failure: Whether an exception speaks against the service called; all do by default. One that does
            not counts as a success.
        on_state_change: Called with the old and the new state ("closed", "half_open", "open"). What it
            raises is logged and otherwise ignored.
        clock: For tests.

    Raises:
        ValueError: A value is out of its range.
    """

    __slots__ = ("_breaker", "_clock", "_is_failure", "_on_state_change")

    def __init__(
        self,
        name: str = "",
        *,
        failure_threshold: int = _DEFAULTS.failure_threshold,
        success_threshold: int = _DEFAULTS.success_threshold,
        reset_timeout: float = _DEFAULTS.reset_timeout,
        failure_rate: float | None = _DEFAULTS.failure_rate,
        window: float = _DEFAULTS.window,
        minimum_calls: int = _DEFAULTS.minimum_calls,
        slow_call: float | None = _DEFAULTS.slow_call,
        slow_rate: float = _DEFAULTS.slow_rate,
        is_failure: Callable[[Exception], bool] | None = None,
        on_state_change: Callable[[State, State], object] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._is_failure = is_failure
        self._on_state_change = on_state_change
        self._breaker = Breaker(
            name,
            BreakerSettings(
                failure_threshold=failure_threshold,
                success_threshold=success_threshold,
                reset_timeout=reset_timeout,
                failure_rate=failure_rate,
                window=window,
                minimum_calls=minimum_calls,
                slow_call=slow_call,
                slow_rate=slow_rate,
            ),
            row=Row.private(common=COMMON_CELLS, own=OWN_CELLS, lock=threading.Lock()),
            clock=clock,
            on_transition=self._tell,
        )

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name or '-'} {self.state}>"

    @property
    def name(self) -> str:
        """What it was called at its making."""
        return self._breaker.name

    @property
    def state(self) -> State:
        """The state now: "closed", "half_open" or "open"."""
        return self._breaker.state(self._clock.monotonic())

    def stats(self) -> BreakerStats:
        """State, reason, counts and override."""
        return self._breaker.stats(self._clock.monotonic())

    def override(self, mode: Mode, *, seconds: float = 0.0, reason: str = "") -> None:
        """Force it open or closed, or merely observe, for ``seconds``; see :meth:`Breaker.override`."""
        self._breaker.override(mode, self._clock.monotonic(), seconds=seconds, reason=reason)

    def begin(self) -> tuple[int, float]:
        """Let a call pass: its permit, and when it began.

        Raises:
            CircuitOpenError: The circuit is open.
        """
        now = self._clock.monotonic()
        permit = self._breaker.admit(now)
        if permit == REFUSED:
            wait = self._breaker.retry_after(now)
            raise CircuitOpenError(
                f"Circuit {self.name or 'breaker'} is open for {wait:.3g} s", retry_after=wait
            )
        return permit, now

    def end(self, call: tuple[int, float], error: BaseException | None) -> None:
        """Take the outcome of a call into account."""
        permit, began = call
        now = self._clock.monotonic()
        if error is None:
            self._breaker.succeeded(permit, now, now - began)
        elif not isinstance(error, Exception):
            self._breaker.cancelled(permit)
        elif self._is_failure is None or self._is_failure(error):
            self._breaker.failed(permit, now, now - began)
        else:
            self._breaker.succeeded(permit, now, now - began)

    def _tell(self, transition: Transition) -> None:
        if self._on_state_change is None:
            return
        try:
            self._on_state_change(transition.before, transition.after)
        except Exception:  # noqa: BLE001 - it must not make the call fail in whose course the state changed
            _log.exception("on_state_change of circuit breaker %s failed", self.name)
