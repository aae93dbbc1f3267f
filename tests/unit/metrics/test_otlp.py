"""The same figures as OTLP metrics, at a real receiver."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from sidecar.metrics import Metrics, Registry, RouteMetrics
from sidecar.metrics.otlp import open_metrics_exporter
from sidecar.otlp import metrics_target
from tests.support.collector import http_collector
from tests.support.waiting import eventually


class Memory:
    """A log that remembers."""

    def __init__(self):
        self.events = []

    def warning(self, event, **fields):
        self.events.append(event)

    info = warning


def exporter_for(url, log=None, **environ):
    target = metrics_target({"OTEL_EXPORTER_METRICS_ENDPOINT": url})
    return open_metrics_exporter(
        target, service="requests", version="1.2.3", environ=environ, log=log or Memory()
    )


@pytest.fixture
def registry():
    registry = Registry(service="requests")
    metrics = Metrics(registry, version="1.2.3")
    route = RouteMetrics(metrics, "all")
    route.started()
    route.ended(b"GET", 200, 3.0, "ab" * 16)
    route.started()
    metrics.breaker_state.labels(upstream="app", host="h:1").value = 2
    return registry


def points(metric):
    data = getattr(metric, metric.WhichOneof("data"))
    return [
        ({item.key: item.value.string_value for item in point.attributes}, point)
        for point in data.data_points
    ]


def test_counters_gauges_and_histograms_arrive_with_their_labels(registry):
    with http_collector() as collector:
        exporter = exporter_for(collector.url)
        exporter.close(registry.snapshot(), 5)
        (request,) = collector.metrics
        (scope_metrics,) = request.resource_metrics[0].scope_metrics
        found = {metric.name: metric for metric in scope_metrics.metrics}
    requests = found["http_requests_total"]
    assert requests.sum.is_monotonic
    ((labels, point),) = points(requests)
    assert labels == {"service": "requests", "method": "GET", "route": "all", "status_code": "200"}
    assert point.as_double == 1
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    duration = found["http_request_duration_ms"]
    assert duration.unit == "ms"
    ((labels, histogram),) = points(duration)
    assert (histogram.count, histogram.sum) == (1, 3.0)
    assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1
    assert histogram.exemplars[0].trace_id.hex() == "ab" * 16
    ((labels, state),) = points(found["circuit_breaker_state"])
    assert (labels["host"], state.as_double) == ("h:1", 2)
    ((_, active),) = points(found["http_server_active_requests"])
    assert active.as_double == 1
    assert "retries_total" not in found


async def test_figures_are_pushed_at_each_interval(registry):
    asked = asyncio.Semaphore(0)

    async def snapshot():
        asked.release()
        return registry.snapshot()

    with http_collector() as collector:
        exporter = exporter_for(collector.url, OTEL_METRIC_EXPORT_INTERVAL="10")
        task = asyncio.create_task(exporter.run(snapshot))
        async with asyncio.timeout(5):
            for _ in range(3):
                await asked.acquire()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        eventually(lambda: collector.metrics, "a push")


def test_a_failure_is_told_once_and_so_is_the_recovery(registry):
    log = Memory()
    with http_collector() as collector:
        collector.answers = [503, 400]
        exporter = exporter_for(collector.url, log)
        for _ in range(4):
            exporter.close(registry.snapshot(), 5)
        assert len(collector.metrics) == 2
    assert log.events == ["metrics_export_failing", "metrics_export_recovered"]


def test_a_push_is_left_out_while_the_last_one_runs(registry):
    with http_collector() as collector:
        collector.hold.set()
        exporter = exporter_for(collector.url)
        for _ in range(20):
            exporter.push(registry.snapshot())
        eventually(lambda: collector.headers, "a request")
        collector.hold.clear()
        collector.released.set()
        exporter._thread.join(5)
        assert len(collector.metrics) == 1


def test_a_black_hole_does_not_hold_up_the_exit(registry):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        exporter = exporter_for(f"http://127.0.0.1:{hole.getsockname()[1]}")
        started = time.monotonic()
        exporter.close(registry.snapshot(), 0.1)
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("interval", ["0", "1s", "-5"])
def test_an_interval_that_cannot_be_followed_is_a_mistake(interval):
    with pytest.raises(ValueError, match="OTEL_METRIC_EXPORT_INTERVAL"):
        exporter_for("http://c:4318", OTEL_METRIC_EXPORT_INTERVAL=interval)
