"""Finds a bulkhead's limit from latency.

The algorithm is Gradient2 of Netflix's concurrency-limits (``Gradient2Limit``, ``WindowedLimit``; Landau,
Thurston, Bozarth: "Performance Under Load", 2018), with its constants. Once a second the mean latency of
that second is compared with a long-term average: where it is higher, a queue grows inside the upstream, and
the limit shrinks in proportion; otherwise it grows by a small allowance. The lower bound of 3 is Envoy's
(adaptive concurrency).
"""

from __future__ import annotations

from typing import Final

INITIAL_LIMIT: Final = 20
LOWEST_LIMIT: Final = 3

_INTERVAL: Final = 1.0  # seconds between two verdicts
_FEWEST_SAMPLES: Final = 10  # below which a second says nothing
_ALLOWANCE: Final = 4  # calls that may queue inside the upstream
_SMOOTHING: Final = 0.2  # share of the new estimate in the next limit
_STEEPEST: Final = 0.5  # a single bad second does not more than halve the estimate
_WARM_UP: Final = 10  # verdicts whose plain mean starts the long-term average
_MEMORY: Final = 600  # verdicts that the long-term average remembers, as an exponential average
_DECAY: Final = 0.9  # how fast the long-term average falls after a long overload


class LongTermLatency:
    """An exponential average that starts as a plain mean."""

    __slots__ = ("_count", "_sum", "value")

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self.value = 0.0

    def add(self, latency: float) -> None:
        """Take in the mean latency of one interval, in seconds."""
        if self._count < _WARM_UP:
            self._count += 1
            self._sum += latency
            self.value = self._sum / self._count
        else:
            weight = 2 / (_MEMORY + 1)
            self.value += (latency - self.value) * weight
        # After a long overload the average is far too high; it should not take minutes to come down.
        if self.value > 2 * latency:
            self.value *= _DECAY


class GradientLimit:
    """The limit for one upstream, as this worker's latencies show it.

    Args:
        max_limit: Never more than this, at least 1.
    """

    __slots__ = (
        "_baseline",
        "_busiest",
        "_ends",
        "_estimate",
        "_latency",
        "_max_limit",
        "_min_limit",
        "_samples",
    )

    def __init__(self, max_limit: int) -> None:
        self._max_limit = max_limit
        self._min_limit = min(LOWEST_LIMIT, max_limit)
        self._estimate = float(min(INITIAL_LIMIT, max_limit))
        self._baseline = LongTermLatency()
        self._ends = 0.0
        self._latency = 0.0  # the sum over this interval
        self._samples = 0
        self._busiest = 0

    @property
    def limit(self) -> int:
        """The limit as it is now."""
        return int(self._estimate)

    def observe(self, now: float, latency: float, in_use: int, limit: int) -> int:
        """Take in one good call.

        Args:
            now: When its response began, in monotonic seconds.
            latency: Seconds from its start to its response's head.
            in_use: Permits in use at its end.
            limit: The limit in force, which another worker may have changed.

        Returns:
            The limit that should be in force from now on.
        """
        self._latency += latency
        self._samples += 1
        self._busiest = max(self._busiest, in_use)
        if now < self._ends:
            return limit
        if limit != self.limit:
            self._estimate = float(limit)
        if self._samples >= _FEWEST_SAMPLES:
            self._judge(self._latency / self._samples)
        self._start_interval(now + _INTERVAL)
        return self.limit

    def _start_interval(self, ends: float) -> None:
        self._ends = ends
        self._latency = 0.0
        self._samples = 0
        self._busiest = 0

    def _judge(self, latency: float) -> None:
        self._baseline.add(latency)
        if self._busiest < self._estimate / 2:
            return  # the limit was not what held the calls back, so nothing is known of a higher one
        gradient = max(_STEEPEST, min(1.0, self._baseline.value / latency)) if latency > 0 else 1.0
        estimate = self._estimate * gradient + _ALLOWANCE
        smoothed = self._estimate * (1 - _SMOOTHING) + estimate * _SMOOTHING
        self._estimate = max(self._min_limit, min(self._max_limit, smoothed))
