"""The figures of the real sidecar: as strict parsers read them, bounded whatever comes, pushed over OTLP."""

from __future__ import annotations

import random
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.support.collector import http_collector
from tests.support.pair import Pair
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import Do, Reply, Upstream, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("metrics")

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
STRANGERS = 100_000
BATCH = 500


def samples(sidecar):
    """All samples of a scrape, by name and labels, as a strict parser reads them."""
    families = parse_prometheus(sidecar.get("/metrics").text)
    return {(it.name, *sorted(it.labels.items())): it.value for family in families for it in family.samples}


@pytest.fixture(scope="module")
def collector():
    with http_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def pair(collector, tmp_path_factory):
    upstreams = {"retried": {"retry": {"initial_delay": "1ms"}}}
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    with Pair(tmp_path_factory.mktemp("metrics"), upstreams, env=env, service="requests") as pair:
        pair.upstream.replies["/retried/dead"] = Reply([Do.CLOSE])
        pair.upstream.replies["/slow"] = Reply([answer(b"", status="503 Service Unavailable")])
        pair.request("GET", "/", f"traceparent: 00-{TRACE}-{PARENT}-01")
        for _ in range(2):
            pair.request("POST", "/", "Idempotency-Key: k", body=b"x")
        pair.request("GET", "/retried/dead")
        pair.request("GET", "/slow")
        yield pair


def test_the_labels_are_those_of_the_documentation(pair):
    """Each family of the table, on the wire, with exactly the labels that stand there."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \|([^|]*)\|", DOCS.read_text(), re.MULTILINE
    )
    promised = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(promised) > 25
    text = pair.sidecar.get("/metrics").text
    families = {family.name: family for family in parse_prometheus(text)}
    for name, (kind, labels) in promised.items():
        family = families[name.removesuffix("_total")]
        assert family.type == kind, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, name
    assert {family.name for family in families.values()} == {it.removesuffix("_total") for it in promised}


def test_openmetrics_says_the_same_and_has_exemplars(pair):
    response = pair.sidecar.get("/metrics", headers=OPENMETRICS)
    families = {family.name: family for family in parse_openmetrics(response.text)}
    assert families.keys() == {family.name for family in parse_prometheus(pair.sidecar.get("/metrics").text)}
    exemplars = [
        (sample.labels["route"], sample.exemplar)
        for sample in families["http_request_duration_ms"].samples
        if sample.exemplar
    ]
    assert ("default", TRACE) in [(route, it.labels["trace_id"]) for route, it in exemplars]
    for _, exemplar in exemplars:
        assert 0 < exemplar.value < 60_000
        assert float(exemplar.timestamp) > 1_700_000_000
    assert "# {" not in pair.sidecar.get("/metrics").text  # plain text has no place for them


def test_a_failed_request_is_in_every_figure_that_it_touches(pair):
    metric = pair.sidecar.metric
    assert metric("http_requests_total", service="requests", route="retried", status_code="502") == 1
    assert metric("http_request_duration_ms_count", service="requests", method="GET", route="retried") == 1
    assert metric("upstream_attempts_total", upstream="retried", outcome="reset") == 3
    assert metric("retries_total", outcome="failure") >= 2
    assert metric("retry_skipped_total", reason="attempts") >= 1
    assert metric("upstream_attempts_total", upstream="app", outcome="failure_status") == 1
    assert metric("idempotency_requests_total", route="default", result="replayed") == 1
    assert metric("idempotency_store_seconds_count", op="claim") >= 1
    state = {key: value for key, value in samples(pair.sidecar).items() if key[0] == "circuit_breaker_state"}
    host = f"127.0.0.1:{pair.upstream.port}"
    assert set(state) == {
        ("circuit_breaker_state", ("host", host), ("service", "requests"), ("upstream", name))
        for name in ("app", "retried")
    }


def test_requests_at_work_are_counted_while_they_are(pair):
    gate = threading.Event()
    pair.upstream.replies["/held"] = Reply([gate, answer(b"ok")])
    metric = pair.sidecar.metric
    with pair.client() as client:
        client.send(b"GET /held HTTP/1.1\r\nHost: test\r\n\r\n")
        pair.upstream.wait_request("/held")
        assert metric("http_server_active_requests", service="requests", route="default") == 1
        assert metric("bulkhead_in_use", upstream="app") == 1
        gate.set()
        client.response()
    assert metric("http_server_active_requests") == 0
    assert metric("bulkhead_in_use") == 0


def test_the_same_figures_go_out_as_otlp_metrics(pair, collector):
    marked = pair.request("DELETE", "/otlp").status
    assert marked == 200

    def pushed():
        for request in reversed(collector.metrics):
            (resource,) = request.resource_metrics
            (scope,) = resource.scope_metrics
            found = {metric.name: metric for metric in scope.metrics}
            if "http_requests_total" not in found:
                continue  # from before the first request
            points = found["http_requests_total"].sum.data_points
            labels = [{it.key: it.value.string_value for it in point.attributes} for point in points]
            if any(it["method"] == "DELETE" for it in labels):
                return resource.resource, found
        return None

    resource, found = eventually(pushed, "the figures with the last request")
    assert {it.key: it.value.string_value for it in resource.attributes}["service.name"] == "requests"
    names = {name.removesuffix("_total") for name in found}
    scraped = {
        family.name for family in parse_prometheus(pair.sidecar.get("/metrics").text) if family.samples
    }
    assert names == scraped
    assert found["http_requests_total"].sum.is_monotonic
    assert found["http_request_duration_ms"].unit == "ms"
    (point,) = [
        point
        for point in found["http_request_duration_ms"].histogram.data_points
        if {it.key: it.value.string_value for it in point.attributes}["method"] == "DELETE"
    ]
    assert (point.count, sum(point.bucket_counts)) == (1, 1)


def test_a_hundred_thousand_strangers_leave_the_series_as_they_are(tmp_path):
    """Random paths, methods, hosts and ids: those that no route knows, and those that fill a template."""
    rng = random.Random(17)
    with Upstream() as upstream:
        config = config_for(upstream.url, log={"level": "warning"})
        config["routes"] = [{"name": "one", "match": {"path": "/api/{id}"}, "upstream": "app"}]
        with closing(Sidecar(config, tmp_path)) as sidecar, sidecar.client() as client:
            held = {"mode": "forced_open", "for": "10m", "reason": "nothing is to reach the upstream"}
            put = sidecar.ask("PUT", "/admin/upstreams/app/breaker", json=held)
            assert put.status_code == 200
            client.reader.keep = False
            _send_batch(client, rng)
            before, memory = samples(sidecar).keys(), sidecar.resident_bytes()
            for _ in range(STRANGERS // BATCH):
                _send_batch(client, rng)
            assert samples(sidecar).keys() == before
            assert sidecar.metric("http_requests_total") == STRANGERS + BATCH
            assert sidecar.metric("http_requests_total", method="_OTHER") > STRANGERS / 4
            assert sidecar.resident_bytes() < memory + 8 * 2**20


def _send_batch(client, rng):
    """Pipelined requests that the sidecar answers by itself, and their answers."""
    requests = []
    for number in range(BATCH):
        method = (b"GET", b"POST", b"M%x" % rng.getrandbits(40), b"%x" % rng.getrandbits(24))[number % 4]
        word = rng.getrandbits(64)
        path = b"/api/%x" % word if number % 8 < 4 else b"/%x/%x" % (word, number)
        requests.append(
            b"%b %b?q=%x HTTP/1.1\r\nHost: h%x\r\nX-Correlation-ID: c%x\r\nUser-Agent: %x\r\n\r\n"
            % (method, path, word, word, word, word)
        )
    client.send(b"".join(requests))
    reader, answered = client.reader, 0
    while answered < BATCH:
        answered += reader.buffer.count(b"\r\n\r\n{")
        kept = reader.buffer[-4:]
        reader.buffer.clear()
        reader.buffer += kept
        if answered < BATCH:
            assert reader.more()
