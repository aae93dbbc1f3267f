"""When the process of a worker that has ended is started again, and when there is no point in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.retry.backoff import Backoff

if TYPE_CHECKING:
    from sidecar.clock import Clock

MOST_FAILED_STARTS: Final = 5
"""Processes in a row that end before they are ready."""

STEADY_SECONDS: Final = 10.0
"""A process that has run for so long is started again at once when it ends."""

_PAUSE: Final = Backoff(initial_delay=0.1, multiplier=2, max_delay=5.0, jitter=False)


class Restarts:
    """The history of one worker, as far as it matters.

    Args:
        clock: Tells how long a process ran.
    """

    __slots__ = ("_began", "_clock", "_failed_starts", "_is_ready", "_short_lives")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = 0.0
        self._is_ready = False
        self._failed_starts = 0
        self._short_lives = 0

    def began(self) -> None:
        """A process was started."""
        self._began = self._clock.monotonic()
        self._is_ready = False

    def ready(self) -> None:
        """It serves."""
        self._is_ready = True
        self._failed_starts = 0

    def ended(self) -> float | None:
        """It has ended: seconds until the next may start, or ``None`` if the fifth in a row never served."""
        if not self._is_ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                return None
        if self._clock.monotonic() - self._began >= STEADY_SECONDS:
            self._short_lives = 0
            return 0.0
        self._short_lives += 1
        return _PAUSE.delay(self._short_lives)
