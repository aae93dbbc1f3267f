"""init_metrics and MetricsMiddleware around a Starlette application."""

from __future__ import annotations

import random

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from sidecar.metrics import library
from sidecar.metrics.library import current_metrics, init_metrics
from sidecar.metrics.middleware import MetricsMiddleware
from tests.support.collector import http_collector
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def exits(monkeypatch):
    """No metrics yet, and what would be done when the process exits."""
    monkeypatch.setattr(library, "_made", {})
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    registered = []
    monkeypatch.setattr("atexit.register", lambda call, *arguments: registered.append((call, arguments)))
    return registered


async def hello(_request):
    return PlainTextResponse("hello")


async def crash(_request):
    raise OSError("broken")


async def talk(websocket):
    await websocket.accept()
    await websocket.close()


def client(**options):
    routes = [Route("/orders/{id}", hello), Route("/crash", crash), WebSocketRoute("/ws", talk)]
    return TestClient(MetricsMiddleware(Starlette(routes=routes), **options), raise_server_exceptions=False)


def scraped(running):
    response = running.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name in {"http_requests_total", "http_server_active_requests"}
    }


def request_series(samples):
    return {
        tuple(value for _, value in labels): count
        for (name, *labels), count in samples.items()
        if name == "http_requests_total"
    }


def test_requests_are_counted_by_route_template():
    init_metrics("requests-service")
    running = client()
    for number in range(3):
        running.get(f"/orders/{number}")
    running.get("/crash")
    running.get("/nowhere")
    samples = scraped(running)
    assert request_series(samples) == {
        ("GET", "/orders/{id}", "requests-service", "200"): 3,
        ("GET", "/crash", "requests-service", "500"): 1,
        ("GET", "unmatched", "requests-service", "404"): 1,
    }
    active = [count for (name, *_), count in samples.items() if name == "http_server_active_requests"]
    assert set(active) == {0}


def test_random_paths_and_methods_do_not_add_series():
    init_metrics("s")
    running = client()
    chance = random.Random(3)
    for _ in range(200):
        running.request(f"M{chance.randrange(10**9)}", f"/{chance.randrange(10**9)}")
    assert request_series(scraped(running)) == {("_OTHER", "unmatched", "s", "404"): 200}


def test_the_path_of_the_metrics_can_be_the_applications():
    init_metrics("s")
    assert client(path=None).get("/metrics").status_code == 404
    assert client(path="/internal").get("/internal").status_code == 200
    assert client().post("/metrics").status_code == 404


def test_websockets_and_the_lifespan_pass_through():
    metrics = init_metrics("s")
    with client(metrics=metrics) as running, running.websocket_connect("/ws"):
        pass
    assert request_series(scraped(running)) == {}


def test_the_second_call_gives_back_the_first():
    assert init_metrics("a") is init_metrics("b") is current_metrics()


def test_metrics_that_were_not_made_are_a_mistake():
    with pytest.raises(RuntimeError, match="call init_metrics"):
        client()


def test_figures_are_pushed_to_an_endpoint(monkeypatch, exits):
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
    with http_collector() as collector:
        metrics = init_metrics("requests-service", exporter_endpoint=collector.url)
        metrics.config_reloads.labels().value = 5
        eventually(lambda: len(collector.metrics) > 1, "two pushes")
        ((close, arguments),) = exits
        close(*arguments)
        found = {
            metric.name: metric
            for metric in collector.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
        }
    assert found["config_reloads_total"].sum.data_points[0].as_double == 5
