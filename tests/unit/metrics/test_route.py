"""What one request adds to the figures of its route."""

from __future__ import annotations

import random

import pytest

from sidecar.metrics import Metrics, Registry, RouteMetrics


@pytest.fixture
def metrics():
    return Metrics(Registry(service="requests"), version="1.2.3")


def series(metrics, name):
    return {
        key: value
        for family in metrics.registry.snapshot()
        if family.description.name == name
        for key, value in family.samples.items()
    }


def test_a_request_is_active_while_it_runs_and_counted_when_it_ends(metrics):
    route = RouteMetrics(metrics, "create-request")
    route.started()
    assert series(metrics, "http_server_active_requests") == {("requests", "create-request"): 1}
    route.ended(b"POST", 201, 3.2)
    assert series(metrics, "http_server_active_requests") == {("requests", "create-request"): 0}
    assert series(metrics, "http_requests_total") == {("requests", "POST", "create-request", "201"): 1}
    ((key, duration),) = series(metrics, "http_request_duration_ms").items()
    assert key == ("requests", "POST", "create-request")
    assert sum(duration.counts) == 1
    assert duration.total == 3.2
    assert duration.exemplars == {}


def test_a_sampled_request_is_an_exemplar(metrics):
    route = RouteMetrics(metrics, "r")
    route.started()
    route.ended(b"GET", 200, 7.0, "ab" * 16)
    (duration,) = series(metrics, "http_request_duration_ms").values()
    (exemplar,) = duration.exemplars.values()
    assert (exemplar.trace_id, exemplar.value) == ("ab" * 16, 7.0)


@pytest.mark.parametrize("method", [b"get", b"PROPFIND", b"X" * 5000, b""])
def test_unknown_methods_are_one(metrics, method):
    route = RouteMetrics(metrics, "r")
    route.started()
    route.ended(method, 200, 1.0)
    assert list(series(metrics, "http_requests_total")) == [("requests", "_OTHER", "r", "200")]


@pytest.mark.parametrize(
    ("status", "label"), [(100, "100"), (599, "599"), (99, "_OTHER"), (600, "_OTHER"), (999, "_OTHER")]
)
def test_statuses_outside_of_the_five_classes_are_one(metrics, status, label):
    route = RouteMetrics(metrics, "r")
    route.started()
    route.ended(b"GET", status, 1.0)
    assert list(series(metrics, "http_requests_total")) == [("requests", "GET", "r", label)]


def test_a_hundred_thousand_random_methods_and_statuses_do_not_add_series(metrics):
    chance = random.Random(7)
    route = RouteMetrics(metrics, "r")
    for _ in range(100_000):
        route.started()
        route.ended(chance.randbytes(6), chance.randrange(600, 1000), 1.0)
    assert series(metrics, "http_requests_total") == {("requests", "_OTHER", "r", "_OTHER"): 100_000}
    assert route._cells == {}
