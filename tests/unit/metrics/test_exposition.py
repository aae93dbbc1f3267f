"""Both text formats, read back by prometheus_client's strict parsers."""

from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from sidecar.metrics import Metrics, Registry, RouteMetrics
from sidecar.metrics.exposition import OPENMETRICS, PROMETHEUS, render
from sidecar.metrics.process import define_process_metrics

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def registry():
    """A sidecar's figures after some traffic, with everything in labels that needs escaping."""
    registry = Registry(service='quote " back \\ line \n end')
    metrics = Metrics(registry, version="1.2.3")
    define_process_metrics(registry)
    route = RouteMetrics(metrics, "all")
    for duration in (0.4, 3.0, 3.1, 99_999.0):
        route.started()
        route.ended(b"GET", 200, duration)
    route.started()
    route.ended(b"GET", 503, 40.0, TRACE_ID)
    metrics.breaker_state.labels(upstream="app", host="127.0.0.1:3000").value = 2
    return registry


def parsed(registry, accept, parse):
    body, content_type = render(registry.snapshot(), accept)
    return {family.name: family for family in parse(body.decode())}, content_type


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [("", parse_prometheus, PROMETHEUS), ("application/openmetrics-text", parse_openmetrics, OPENMETRICS)],
    ids=["prometheus", "openmetrics"],
)
def test_a_strict_parser_reads_back_what_was_counted(registry, accept, parse, content_type):
    families, got_type = parsed(registry, accept, parse)
    assert got_type == content_type
    service = registry.service
    requests = {
        sample.labels["status_code"]: sample.value
        for sample in families["http_requests"].samples
        if sample.name == "http_requests_total"
    }
    assert requests == {"200": 4, "503": 1}
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families["http_request_duration_ms"].samples
        if sample.name == "http_request_duration_ms_bucket"
    }
    assert buckets["0.5"] == 1
    assert buckets["5.0"] == 3
    assert buckets["50.0"] == 4
    assert buckets["30000.0"] == 4
    assert buckets["+Inf"] == 5
    assert list(buckets.values()) == sorted(buckets.values())
    (state,) = families["circuit_breaker_state"].samples
    assert state.value == 2
    assert state.labels == {"service": service, "upstream": "app", "host": "127.0.0.1:3000"}


def test_openmetrics_carries_the_trace_of_an_exemplar(registry):
    families, _ = parsed(registry, "application/openmetrics-text", parse_openmetrics)
    shown = [sample for sample in families["http_request_duration_ms"].samples if sample.exemplar]
    (sample,) = shown
    assert sample.labels["le"] == "50.0"
    assert sample.exemplar.labels == {"trace_id": TRACE_ID}
    assert sample.exemplar.value == 40.0


def test_sum_and_count_agree_with_the_buckets(registry):
    families, _ = parsed(registry, "", parse_prometheus)
    found = {sample.name: sample.value for sample in families["http_request_duration_ms"].samples}
    assert found["http_request_duration_ms_count"] == 5
    assert math.isclose(found["http_request_duration_ms_sum"], 100_045.5)


def test_openmetrics_ends_with_its_mark_and_the_text_format_has_none(registry):
    assert render(registry.snapshot(), "application/openmetrics-text")[0].endswith(b"\n# EOF\n")
    assert b"# EOF" not in render(registry.snapshot())[0]


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/html", PROMETHEUS),
        ("text/plain", PROMETHEUS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0", OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", PROMETHEUS),
        ("application/openmetrics-text;q=0", PROMETHEUS),
        ("application/openmetrics-text;q=high", PROMETHEUS),
        ("application/openmetrics-text;version=abc", OPENMETRICS),
        ("application/openmetrics-text;q=nan", PROMETHEUS),
        (";;;=,,=;q", PROMETHEUS),
    ],
)
def test_the_format_is_the_one_that_the_client_prefers(registry, accept, content_type):
    assert render(registry.snapshot(), accept)[1] == content_type
