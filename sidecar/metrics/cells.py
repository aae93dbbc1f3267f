"""What the data path writes to: plain slotted numbers, read by nobody until somebody scrapes.

A cell belongs to one thread, the event loop's. An update costs an attribute access; names and labels are the
business of :mod:`sidecar.metrics.registry` at load, text is that of :mod:`sidecar.metrics.exposition`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Counter:
    """A number that only grows: ``cell.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0.0

    def read(self) -> float:
        """The value now."""
        return self.value


class Gauge:
    """A number that goes up and down: ``cell.value = …``, ``cell.value -= 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0.0

    def read(self) -> float:
        """The value now."""
        return self.value


class Exemplar(NamedTuple):
    """One observation that shows what a bucket holds.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits.
        value: What was observed, in the histogram's unit.
        time: When, in seconds since the Unix epoch.
    """

    trace_id: str
    value: float
    time: float


class HistogramValue(NamedTuple):
    """A histogram at one moment.

    Attributes:
        bounds: Upper bounds of the buckets, inclusive and ascending, without ``+Inf``.
        counts: Observations per bucket, not cumulative; one more than there are bounds.
        total: Sum of all observations.
        exemplars: By the bucket's index.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    exemplars: dict[int, Exemplar]


class Histogram:
    """Observations sorted into fixed buckets."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count ``value``, which has the unit of the family's name. A bucket holds values up to its bound."""
        self.counts[_bucket_of(value, self.bounds)] += 1
        self.total += value

    def observe_traced(self, value: float, trace_id: str, now: float) -> None:
        """Count ``value`` and keep it as its bucket's exemplar, in place of an older one."""
        index = _bucket_of(value, self.bounds)
        self.counts[index] += 1
        self.total += value
        self.exemplars[index] = Exemplar(trace_id, value, now)

    def read(self) -> HistogramValue:
        """The buckets now, as a copy."""
        return HistogramValue(self.bounds, tuple(self.counts), self.total, dict(self.exemplars))


def observing(histograms: Mapping[str, Histogram]) -> Callable[[str, float], None]:
    """What counts a value in the histogram of that name."""

    def observe(name: str, value: float) -> None:
        histograms[name].observe(value)

    return observe


def _bucket_of(value: float, bounds: tuple[float, ...]) -> int:
    """What ``bisect_left`` finds; compiled, it costs a sixth of calling that."""
    low, high = 0, len(bounds)
    while low < high:
        middle = (low + high) // 2
        if bounds[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low
