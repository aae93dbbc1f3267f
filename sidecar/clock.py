"""Where time comes from, so that tests can move it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time.

    Cores take a clock and never call :mod:`time` themselves: a test that moves the clock needs no sleep.
    """

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back. For durations and deadlines."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, UTC. For what people and other processes read."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Seconds since the clock's own origin."""
        return self._monotonic

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both hands forward by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._monotonic += seconds
        self._wall += seconds


SYSTEM_CLOCK: Clock = SystemClock()
