"""A real Prometheus scrapes what is exposed and answers the dashboards' queries.

Collected where Debian's ``prometheus`` is installed. Everywhere else the strict parsers of
``tests/unit/metrics/test_exposition.py`` and the query checks of ``tests/unit/test_deploy.py`` stand alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sidecar.metrics import Metrics, Registry, RouteMetrics
from sidecar.metrics.exposition import render
from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("prometheus")

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"

__test__ = shutil.which("prometheus") is not None


@contextmanager
def traffic():
    """The figures of a service whose every tenth request fails; yields their address."""
    registry = Registry(service="requests")
    metrics = Metrics(registry, version="1.2.3")
    metrics.breaker_state.labels(upstream="app", host="127.0.0.1:3000").value = 2
    route = RouteMetrics(metrics, "create-request")
    done = threading.Event()

    def serve_requests():
        number = 0
        while not done.wait(0.001):
            route.started()
            route.ended(b"POST", 503 if number % 10 == 0 else 200, 40.0, TRACE_ID if number % 50 == 0 else "")
            number += 1

    class Scraped(BaseHTTPRequestHandler):
        def do_GET(self):
            body, content_type = render(registry.snapshot(), self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scraped)
    for target in (serve_requests, lambda: server.serve_forever(0.01)):
        threading.Thread(target=target, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        done.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Asks a Prometheus that has scraped for a while."""
    folder = tmp_path_factory.mktemp("prometheus")
    port = free_port()
    with traffic() as target:
        config = f"""
global: {{scrape_interval: 200ms, evaluation_interval: 200ms, scrape_timeout: 200ms}}
rule_files: [{DEPLOY}/rules/*.yml]
scrape_configs: [{{job_name: sidecar, static_configs: [{{targets: ["{target}"]}}]}}]
"""
        (folder / "prometheus.yml").write_text(config)
        command = [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=error",
        ]
        process = subprocess.Popen(command)

        def get(path, **parameters):
            url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    return json.load(response)["data"]
            except OSError:
                return None

        try:
            look = 'rate(http_requests_total{status_code="503"}[5m]) > 0'
            eventually(lambda: (get("query", query=look) or {}).get("result"), "two scrapes", within=30)
            yield get
        finally:
            process.terminate()
            process.wait(10)


def value_of(ask, query):
    (sample,) = ask("query", query=query)["result"]
    return float(sample["value"][1])


def test_the_seeds_queries_are_answered(ask):
    assert value_of(ask, "sum(rate(http_requests_total[5m])) by (service)") > 0
    errors = 'sum(rate(http_requests_total{status_code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))'
    assert value_of(ask, errors) == pytest.approx(0.1, abs=0.03)
    p95 = "histogram_quantile(0.95, rate(http_request_duration_ms_bucket[5m]))"
    assert 25 < value_of(ask, p95) <= 50
    assert value_of(ask, 'circuit_breaker_state{service="requests"}') == 2


def test_exemplars_arrive(ask):
    def found():
        series = ask("query_exemplars", query="http_request_duration_ms_bucket", start=0, end=4e9)
        return [exemplar["labels"]["trace_id"] for one in series for exemplar in one["exemplars"]]

    assert TRACE_ID in eventually(found, "an exemplar")


def test_the_rules_are_loaded_and_compute(ask):
    def ratio():
        return ask("query", query="service:http_errors:ratio_rate5m")["result"]

    (sample,) = eventually(ratio, "a recorded series")
    assert sample["metric"] == {"__name__": "service:http_errors:ratio_rate5m", "service": "requests"}

    def alerts():
        return {alert["labels"]["alertname"] for alert in ask("alerts")["alerts"]}

    eventually(lambda: {"SidecarErrorRate", "CircuitBreakerOpen"} <= alerts(), "both alerts pending")


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", str(DEPLOY / "prometheus.yml")],
        ["check", "rules", *map(str, sorted((DEPLOY / "rules").glob("*.yml")))],
        ["test", "rules", str(DEPLOY / "rules_test.yml")],
    ],
    ids=["config", "rules", "tests of rules"],
)
def test_promtool_has_nothing_to_say(arguments):
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
