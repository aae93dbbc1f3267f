"""When a circuit breaker opens, and how it closes again."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_RESET_TIMEOUT = 3600.0
"""Seconds. More is taken for a mistake: milliseconds, most likely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """A circuit breaker's parameters.

    Attributes:
        failure_threshold: Hard failures in a row that open it, at least 1.
        success_threshold: Probes that must succeed to close it, and the most that run at once; at least 1.
        reset_timeout: Seconds that it stays open, ±10 %; doubles up to two minutes while probes fail.
        failure_rate: Share of failed calls in the window that opens it, above 0, at most 1; or ``None``.
        window: Seconds over which rates are measured.
        minimum_calls: Calls in the window below which no rate counts, at least 1.
        slow_call: Seconds beyond which a call is slow; ``None`` if no call is.
        slow_rate: Share of slow calls in the window that opens it, above 0 and at most 1.

    Raises:
        ValueError: A value is out of its range.
    """

    failure_threshold: int = 5
    success_threshold: int = 3
    reset_timeout: float = 30.0
    failure_rate: float | None = 0.5
    window: float = 10.0
    minimum_calls: int = 20
    slow_call: float | None = None
    slow_rate: float = 0.8

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "minimum_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("failure_rate", "slow_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {rate}")
        if self.window <= 0:
            raise ValueError(f"window must be above 0 seconds, got {self.window}")
        if self.slow_call is not None and self.slow_call <= 0:
            raise ValueError(f"slow_call must be above 0 seconds or None, got {self.slow_call}")
        self._check_reset_timeout()

    def _check_reset_timeout(self) -> None:
        seconds = self.reset_timeout
        if not 0 < seconds <= LONGEST_RESET_TIMEOUT:
            raise ValueError(
                f"reset_timeout must be above 0 and at most {LONGEST_RESET_TIMEOUT:.0f} seconds, "
                f"got {seconds} (milliseconds must be divided by 1000)"
            )
