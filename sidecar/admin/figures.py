"""What people want to see of the traffic, from the counters that scrapers read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from sidecar.metrics.cells import HistogramValue

if TYPE_CHECKING:
    from sidecar.metrics.registry import FamilySnapshot, LabelValues, Snapshot

WINDOW: Final = 10.0
"""Seconds over which latencies are measured."""

_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums since the start, at one moment.

    Attributes:
        at: Monotonic seconds.
        by_status: Requests by the first digit of their status.
        bounds: Upper bounds of the latency buckets, in milliseconds.
        buckets: Requests by latency.
    """

    at: float
    by_status: dict[str, float] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()


class Traffic:
    """Rates and latencies over the last seconds."""

    def __init__(self) -> None:
        self._past: deque[Totals] = deque()

    def observe(self, snapshot: Snapshot, now: float) -> dict[str, Any]:
        """The figures of the time up to ``now``, as JSON holds them; null where there was no request.

        Rates are per second since the call before, latencies are of the last ten seconds, interpolated within
        their bucket as Prometheus' ``histogram_quantile`` does.
        """
        present = _totals(snapshot, now)
        past = self._past
        past.append(present)
        while past[0].at < now - WINDOW:
            past.popleft()
        before = past[-2] if len(past) > 1 else present
        rates = _rates(before, present)
        counts = _difference(past[0].buckets, present.buckets)
        return {
            "requests_per_second": round(sum(rates.values()), 2),
            "errors_per_second": rates.get("5xx", 0.0),
            "by_status": rates,
            "latency_ms": {name: quantile(present.bounds, counts, q) for name, q in _QUANTILES.items()},
        }


def quantile(bounds: tuple[float, ...], counts: tuple[int, ...], q: float) -> float | None:
    """The value below which a share ``q`` of the observations lies; above the last bound, that bound."""
    wanted = q * sum(counts)
    if not wanted:
        return None
    below = 0
    low = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= wanted:
            return round(low + (bound - low) * (wanted - below) / count, 3)
        below += count
        low = bound
    return bounds[-1]


def dead_letters(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The queues of dead letters that hold any."""
    depths = _family(snapshot, "dlq_depth")
    if depths is None:
        return []
    names = depths.description.labels
    return [
        {**dict(zip(names, values, strict=True)), "depth": depth}
        for values, depth in depths.samples.items()
        if depth
    ]


def _totals(snapshot: Snapshot, now: float) -> Totals:
    requests, durations = (
        _family(snapshot, "http_requests_total"),
        _family(snapshot, "http_request_duration_ms"),
    )
    if requests is None or durations is None:
        return Totals(now)
    by_status: dict[str, float] = {}
    place = requests.description.labels.index("status_code")
    for values, count in requests.samples.items():
        kind = _class_of(values, place)
        by_status[kind] = by_status.get(kind, 0.0) + cast("float", count)
    bounds: tuple[float, ...] = ()
    buckets: list[int] = []
    for histogram in durations.samples.values():
        assert isinstance(histogram, HistogramValue)
        bounds = histogram.bounds
        buckets = [
            sum(pair) for pair in zip(buckets or [0] * len(histogram.counts), histogram.counts, strict=True)
        ]
    return Totals(now, by_status, bounds, tuple(buckets))


def _class_of(values: LabelValues, place: int) -> str:
    first = values[place][0]
    return f"{first}xx" if first.isdigit() else "other"


def _rates(before: Totals, present: Totals) -> dict[str, float]:
    seconds = present.at - before.at
    if seconds <= 0:
        return {}
    return {
        # A sum that falls is that of a worker that has ended.
        kind: round(max(0.0, count - before.by_status.get(kind, 0.0)) / seconds, 2)
        for kind, count in sorted(present.by_status.items())
    }


def _difference(before: tuple[int, ...], present: tuple[int, ...]) -> tuple[int, ...]:
    if not before:
        return present
    return tuple(max(0, new - old) for old, new in zip(before, present, strict=True))


def _family(snapshot: Snapshot, name: str) -> FamilySnapshot | None:
    return next((family for family in snapshot if family.description.name == name), None)
