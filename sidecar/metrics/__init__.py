"""Metrics: cells that the data path writes to, families that name them, and their exposition."""

from __future__ import annotations

from sidecar.metrics.cells import Counter, Gauge, Histogram
from sidecar.metrics.names import Metrics
from sidecar.metrics.registry import Registry, Snapshot, merge, retired
from sidecar.metrics.route import UNMATCHED, RouteMetrics

__all__ = [
    "UNMATCHED",
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
    "Registry",
    "RouteMetrics",
    "Snapshot",
    "merge",
    "retired",
]
