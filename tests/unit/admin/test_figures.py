from __future__ import annotations

import pytest

from sidecar.admin.figures import WINDOW, Traffic, dead_letters, quantile
from sidecar.metrics.names import Metrics
from sidecar.metrics.registry import Registry
from sidecar.metrics.route import RouteMetrics


class Sidecar:
    """Counts as the data path does."""

    def __init__(self):
        self.registry = Registry(service="shop")
        self.metrics = Metrics(self.registry, version="1")
        self.routes = [RouteMetrics(self.metrics, name) for name in ("a", "b")]

    def request(self, status=200, ms=3.0, route=0):
        self.routes[route].started()
        self.routes[route].ended(b"GET", status, ms)

    def seen_by(self, traffic, now):
        return traffic.observe(self.registry.snapshot(), now)


def test_nothing_yet_is_no_figure():
    figures = Sidecar().seen_by(Traffic(), 0.0)
    assert figures == {
        "requests_per_second": 0,
        "errors_per_second": 0.0,
        "by_status": {},
        "latency_ms": {"p50": None, "p90": None, "p99": None},
    }


def test_rates_are_of_the_time_since_the_last_look():
    sidecar, traffic = Sidecar(), Traffic()
    sidecar.request()
    sidecar.seen_by(traffic, 100.0)
    for number in range(10):
        sidecar.request(route=number % 2)
    sidecar.request(status=503)
    sidecar.request(status=404)
    figures = sidecar.seen_by(traffic, 102.0)
    assert figures["requests_per_second"] == 6.0
    assert figures["errors_per_second"] == 0.5
    assert figures["by_status"] == {"2xx": 5.0, "4xx": 0.5, "5xx": 0.5}
    assert sidecar.seen_by(traffic, 103.0)["requests_per_second"] == 0.0


def test_latencies_are_of_the_last_ten_seconds():
    sidecar, traffic = Sidecar(), Traffic()
    sidecar.seen_by(traffic, 0.0)
    for _ in range(100):
        sidecar.request(ms=4000.0)
    slow = sidecar.seen_by(traffic, 1.0)["latency_ms"]
    assert 2500 < slow["p50"] < slow["p99"] <= 5000
    for second in range(2, int(WINDOW) + 3):
        sidecar.request(ms=0.2)
        figures = sidecar.seen_by(traffic, float(second))
    assert figures["latency_ms"]["p99"] <= 0.5


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 0, 0), 0.5, None),
        ((10, 0, 0), 0.5, 0.5),
        ((0, 10, 0), 0.5, 1.5),
        ((5, 5, 0), 0.9, 1.8),
        ((0, 0, 3), 0.5, 2.0),
    ],
)
def test_quantiles_are_interpolated_within_their_bucket(counts, q, expected):
    assert quantile((1.0, 2.0), counts, q) == expected


def test_a_worker_that_ends_makes_no_negative_rate():
    before, after, traffic = Sidecar(), Sidecar(), Traffic()
    for _ in range(5):
        before.request()
    before.seen_by(traffic, 0.0)
    after.request()
    figures = after.seen_by(traffic, 1.0)
    assert figures["requests_per_second"] == 0.0


def test_statuses_that_are_none_have_a_class_of_their_own():
    sidecar, traffic = Sidecar(), Traffic()
    sidecar.seen_by(traffic, 0.0)
    sidecar.request(status=0)
    assert sidecar.seen_by(traffic, 1.0)["by_status"] == {"other": 1.0}


def test_queues_that_hold_dead_letters_are_shown():
    sidecar = Sidecar()
    depth = sidecar.metrics.dlq_depth
    depth.labels(event_type="ORDER").value = 3
    depth.labels(event_type="EMPTY").value = 0
    assert dead_letters(sidecar.registry.snapshot()) == [
        {"service": "shop", "event_type": "ORDER", "depth": 3}
    ]
    assert dead_letters(()) == []
