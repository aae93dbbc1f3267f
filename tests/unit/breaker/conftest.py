from __future__ import annotations

from random import Random

import pytest

from sidecar.breaker.core import Breaker
from sidecar.breaker.settings import BreakerSettings
from sidecar.clock import ManualClock


class Steady(Random):
    """No jitter: always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Bench:
    """A breaker on a clock that the test moves, and every transition that it made."""

    def __init__(self, clock: ManualClock | None = None, random: Random | None = None, **settings) -> None:
        self.clock = clock or ManualClock()
        self.transitions: list = []
        self.breaker = Breaker(
            "app/127.0.0.1:3000",
            BreakerSettings(**settings),
            clock=self.clock,
            random=random or Steady(),
            on_transition=self.transitions.append,
        )

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @property
    def state(self) -> str:
        return str(self.breaker.state(self.now))

    @property
    def causes(self) -> list[str]:
        return [str(transition.cause) for transition in self.transitions]

    def admit(self) -> int:
        return self.breaker.admit(self.now)

    def succeed(self, permit: int | None = None, *, times: int = 1, duration: float = 0.01) -> None:
        for _ in range(times):
            self.breaker.succeeded(permit or self.admit(), self.now, duration)

    def fail(
        self, permit: int | None = None, *, times: int = 1, hard: bool = True, duration: float = 0.01
    ) -> None:
        for _ in range(times):
            self.breaker.failed(permit or self.admit(), self.now, duration, hard=hard)

    def open(self) -> None:
        self.fail(times=self.breaker.settings.failure_threshold)
        assert self.state == "open"

    def half_open(self) -> None:
        self.open()
        self.clock.advance(self.breaker.retry_after(self.now) + 0.001)
        assert self.state == "half_open"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make_bench() -> type[Bench]:
    return Bench
