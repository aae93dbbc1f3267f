"""The same figures as OTLP metrics, pushed to a collector at an interval.

This module pulls in opentelemetry and protobuf; it is imported only where an endpoint is configured.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final, cast

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as OtlpExemplar

from sidecar.otlp.resource import attribute, resource_of, scope_of
from sidecar.otlp.sender import Rejected, Unavailable, open_sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    from sidecar.log import Log
    from sidecar.metrics.cells import HistogramValue
    from sidecar.metrics.registry import FamilySnapshot, LabelValues, Snapshot
    from sidecar.otlp.sender import Sender
    from sidecar.otlp.target import Target

_INTERVAL_MS: Final = "60000"
_UNITS: Final = {"_ms": "ms", "_seconds": "s", "_bytes": "By"}


class MetricsExporter:
    """Pushes snapshots; a thread encodes and sends them, one at a time.

    Args:
        sender: The way to the collector.
        service: Name of the service.
        version: Of the sidecar.
        interval: Seconds between two pushes.
        log: Told once when the collector fails, and once when it is back.

    Attributes:
        interval: The same.
    """

    def __init__(self, sender: Sender, *, service: str, version: str, interval: float, log: Log) -> None:
        self._sender = sender
        self._resource = resource_of(service)
        self._scope = scope_of(version)
        self.interval = interval
        self._log = log
        self._failing = False
        self._started_ns = time.time_ns()
        self._thread: threading.Thread | None = None

    async def run(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Push the figures of the whole sidecar at each interval, until cancelled."""
        while True:
            await asyncio.sleep(self.interval)
            self.push(await snapshot())

    def push(self, snapshot: Snapshot) -> threading.Thread:
        """Begin to send the figures. Left out while the last push still runs: the next one says the same."""
        if self._thread is not None and self._thread.is_alive():
            return self._thread
        # A daemon, and not one of asyncio's executor: a dead collector must not hold up the exit.
        self._thread = threading.Thread(target=self._send, args=(snapshot,), name="metrics-push", daemon=True)
        self._thread.start()
        return self._thread

    def close(self, snapshot: Snapshot, timeout: float) -> None:
        """Push for the last time, and wait for it for at most ``timeout`` seconds."""
        self.push(snapshot).join(timeout)

    def _send(self, snapshot: Snapshot) -> None:
        trouble = ""
        try:
            self._sender.send(self.encode(snapshot))
        except (Rejected, Unavailable) as error:
            trouble = str(error)
        if trouble and not self._failing:
            self._log.warning("metrics_export_failing", error=trouble)
        elif self._failing and not trouble:
            self._log.info("metrics_export_recovered")
        self._failing = bool(trouble)

    def encode(self, snapshot: Snapshot) -> bytes:
        """An encoded ``ExportMetricsServiceRequest``."""
        now_ns = time.time_ns()
        metrics = [_metric(family, self._started_ns, now_ns) for family in snapshot if family.samples]
        scope_metrics = ScopeMetrics(scope=self._scope, metrics=metrics)
        resource_metrics = ResourceMetrics(resource=self._resource, scope_metrics=[scope_metrics])
        return ExportMetricsServiceRequest(resource_metrics=[resource_metrics]).SerializeToString()


def open_metrics_exporter(
    target: Target,
    *,
    service: str,
    version: str,
    environ: Mapping[str, str],
    log: Log,
) -> MetricsExporter:
    """An exporter to ``target``; ``OTEL_METRIC_EXPORT_INTERVAL`` (milliseconds, a minute) is read.

    Raises:
        ValueError: ``target`` or the interval cannot be followed.
    """
    text = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or _INTERVAL_MS
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError(f"OTEL_METRIC_EXPORT_INTERVAL is a positive number of milliseconds, not {text!r}")
    sender = open_sender(target, "MetricsService")
    return MetricsExporter(sender, service=service, version=version, interval=int(text) / 1000, log=log)


def _metric(family: FamilySnapshot, started_ns: int, now_ns: int) -> Metric:
    about = family.description
    unit = next((unit for suffix, unit in _UNITS.items() if about.name.endswith(suffix)), "1")
    metric = Metric(name=about.name, description=about.help, unit=unit)
    if about.kind == "histogram":
        points = list(_histogram_points(family, started_ns, now_ns))
        metric.histogram.CopyFrom(
            Histogram(data_points=points, aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE)
        )
    elif about.kind == "counter":
        numbers = list(_number_points(family, started_ns, now_ns))
        metric.sum.CopyFrom(
            Sum(
                data_points=numbers,
                aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE,
                is_monotonic=True,
            )
        )
    else:
        metric.gauge.CopyFrom(Gauge(data_points=list(_number_points(family, 0, now_ns))))
    return metric


def _number_points(family: FamilySnapshot, started_ns: int, now_ns: int) -> Iterator[NumberDataPoint]:
    for values, value in family.samples.items():
        yield NumberDataPoint(
            attributes=_labels(family, values),
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            as_double=cast("float", value),
        )


def _histogram_points(family: FamilySnapshot, started_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    for values, sample in family.samples.items():
        value = cast("HistogramValue", sample)
        yield HistogramDataPoint(
            attributes=_labels(family, values),
            start_time_unix_nano=started_ns,
            time_unix_nano=now_ns,
            count=sum(value.counts),
            sum=value.total,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
            exemplars=[
                OtlpExemplar(
                    time_unix_nano=int(exemplar.time * 1e9),
                    as_double=exemplar.value,
                    trace_id=bytes.fromhex(exemplar.trace_id),
                )
                for exemplar in value.exemplars.values()
            ],
        )


def _labels(family: FamilySnapshot, values: LabelValues) -> list[KeyValue]:
    return [attribute(name, value) for name, value in zip(family.description.labels, values, strict=True)]
