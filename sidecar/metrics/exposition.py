"""A snapshot as Prometheus text or OpenMetrics, written by prometheus_client.

This is the only module that imports prometheus_client. Rendering costs some 10 µs a line: it is done outside
of the loop's thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast

from prometheus_client import exposition as prometheus_text
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics_text
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.metrics.cells import HistogramValue
    from sidecar.metrics.registry import FamilySnapshot, LabelValues, Snapshot

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# All our names are plain ASCII words; under this scheme they are copied, not escaped letter by letter.
_ESCAPING: Final = "allow-utf-8"
_INFINITY: Final = float("inf")
_OPENMETRICS_END: Final = b"# EOF\n"


class SnapshotCollector(Collector):
    """Shows a snapshot to prometheus_client as one of its collectors."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """The families, each with its samples."""
        return map(_to_metric, self._snapshot)


def render(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """The body and the content type of a ``/metrics`` answer, in the format that ``accept`` prefers.

    Family by family, with a chance for other threads in between: a scrape must not hold up the loop.
    """
    as_openmetrics = _prefers_openmetrics(accept)
    write = openmetrics_text.generate_latest if as_openmetrics else prometheus_text.generate_latest
    parts = []
    for family in snapshot:
        text: bytes = write(SnapshotCollector((family,)), escaping=_ESCAPING)
        parts.append(text.removesuffix(_OPENMETRICS_END))
        time.sleep(0)
    if as_openmetrics:
        parts.append(_OPENMETRICS_END)
    return b"".join(parts), OPENMETRICS if as_openmetrics else PROMETHEUS


def _to_metric(family: FamilySnapshot) -> Metric:
    about = family.description
    if about.kind == "histogram":
        return _to_histogram(family)
    kind = CounterMetricFamily if about.kind == "counter" else GaugeMetricFamily
    metric = kind(about.name, about.help, labels=about.labels)
    for values, value in family.samples.items():
        metric.add_metric(values, cast("float", value))
    return metric


def _to_histogram(family: FamilySnapshot) -> HistogramMetricFamily:
    about = family.description
    metric = HistogramMetricFamily(about.name, about.help, labels=about.labels)
    for values, value in family.samples.items():
        _add_buckets(metric, values, cast("HistogramValue", value))
    return metric


def _add_buckets(metric: HistogramMetricFamily, labels: LabelValues, value: HistogramValue) -> None:
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    cumulative = 0
    for index, bound in enumerate((*value.bounds, _INFINITY)):
        cumulative += value.counts[index]
        edge = str(bound) if bound < _INFINITY else "+Inf"
        shown = value.exemplars.get(index)
        if shown is None:
            buckets.append((edge, cumulative))
        else:
            exemplar = Exemplar({"trace_id": shown.trace_id}, shown.value, shown.time)
            buckets.append((edge, cumulative, exemplar))
    metric.add_metric(labels, buckets, value.total)


def _prefers_openmetrics(accept: str) -> bool:
    """Whether the client ranks OpenMetrics at least as high as plain text (RFC 9110, section 12.5.1).

    Not prometheus_client's own ``choose_encoder``: it ignores ``q`` and fails on a version that is no number.
    """
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        if kind in best:
            best[kind] = max(best[kind], _quality(parameters))
    openmetrics, plain = best.values()
    return openmetrics > 0 and openmetrics >= plain


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
