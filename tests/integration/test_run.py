"""``sidecar run``: without a file, with flags and variables, on ports that are taken; health and metrics."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from sidecar.version import VERSION
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.raw import Client, error_of, refusal
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, Upstream, answer
from tests.support.waiting import PATIENCE


def run_sidecar(*arguments, env=None):
    """A command that is expected to end by itself."""
    command = [sys.executable, "-m", "sidecar", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT, env=env)


@pytest.fixture
def bare(start_sidecar, upstream):
    """A sidecar that knows nothing but where the service is."""
    return start_sidecar(None, arguments=["--upstream", upstream.url])


class TestWithoutAFile:
    def test_it_has_everything_on(self, bare, upstream):
        with bare.client() as client:
            assert client.request("GET", "/any/path?q=1").status == 200
            first = client.request("POST", "/pay", "Idempotency-Key: k1", body=b"{}")
            again = client.request("POST", "/pay", "Idempotency-Key: k1", body=b"{}")
            other = client.request("POST", "/pay", "Idempotency-Key: k1", body=b"[]")
        assert "x-correlation-id" in first
        assert again["x-idempotent-replayed"] == b"true"
        assert refusal(other) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert len(upstream.on("/pay")) == 1
        assert upstream.on("/pay")[0]["traceparent"].startswith(b"00-")
        assert bare.metric("http_requests_total", status_code="200", service="sidecar") >= 2
        assert bare.metric("circuit_breaker_state", upstream="app") == 0

    def test_it_retries(self, bare, upstream):
        outcomes = iter([Do.CLOSE, None])

        def flaky(connection, request):
            step = next(outcomes)
            Reply([step] if step else [answer()])(connection, request)

        upstream.reply = flaky
        with bare.client() as client:
            assert client.request("GET", "/").status == 200
        assert len(upstream.requests) == 2

    def test_the_breaker_opens(self, bare, upstream):
        upstream.reply = Reply([Do.CLOSE])
        with bare.client() as client:
            codes = [error_of(client.request("POST", "/", body=b""))["code"] for _ in range(6)]
        assert codes == ["UPSTREAM_UNREACHABLE"] * 5 + ["CIRCUIT_OPEN"]
        assert bare.metric("circuit_breaker_state", upstream="app") == 2

    def test_it_warns_once_that_keys_are_not_durable(self, bare):
        bare.wait_log(lambda line: "restart" in line.get("message", ""), "the warning")
        with bare.client() as client:
            client.request("GET", "/")
        bare.access_line(path="/")
        assert len([line for line in bare.logs() if line["level"] == "warning"]) == 1

    def test_it_says_where_it_listens(self, bare):
        line = bare.wait_log(lambda line: line["event"] == "started", "the start")
        assert str(bare.port) in json.dumps(line)
        assert line["version"] == VERSION

    def test_nothing_listens_beyond_loopback_but_the_data_port(self, bare):
        """The admin port is 127.0.0.1's alone unless somebody says otherwise."""
        assert bare.get("/healthz").status_code == 200

    def test_a_service_that_is_not_there_yet(self, start_sidecar):
        port = free_port()
        sidecar = start_sidecar(None, arguments=["--upstream", f"http://127.0.0.1:{port}"])
        with sidecar.client() as client:
            response = client.request("POST", "/", body=b"")
            assert refusal(response) == (502, "UPSTREAM_UNREACHABLE")
            with Upstream(port=port):
                assert client.request("POST", "/", body=b"").status == 200


class TestPrecedence:
    def test_flags_override_the_environment_which_overrides_the_file(self, start_sidecar, tmp_path):
        with Upstream() as by_file, Upstream() as by_variable, Upstream() as by_flag:
            env = {"SIDECAR_UPSTREAMS__APP__URL": by_variable.url, "SIDECAR_SERVICE": "from-env"}
            first = start_sidecar(config_for(by_file.url, service="from-file"), env=env)
            flags = ["--upstream", by_flag.url]
            second = start_sidecar(config_for(by_file.url, service="from-file"), env=env, arguments=flags)
            for sidecar in (first, second):
                with sidecar.client() as client:
                    assert client.request("GET", "/").status == 200
            assert [len(it.requests) for it in (by_file, by_variable, by_flag)] == [0, 1, 1]
            assert first.logs()[0]["service"] == "from-env"

    def test_variables_that_users_have(self, start_sidecar, upstream):
        sidecar = start_sidecar(config_for(upstream.url), env={"OTEL_SERVICE_NAME": "orders"})
        with sidecar.client() as client:
            client.request("GET", "/")
        assert sidecar.metric("http_requests_total", service="orders") == 1

    def test_levels_and_formats(self, start_sidecar, upstream):
        arguments = ["--upstream", upstream.url, "--log-level", "warning", "--log-format", "console"]
        sidecar = start_sidecar(None, arguments=arguments)
        with sidecar.client() as client:
            client.request("GET", "/quiet")
        assert sidecar.stop() == 0
        assert "/quiet" not in sidecar.process.output()
        assert "restart" in sidecar.process.output()
        assert '{"' not in sidecar.process.output()


class TestMistakes:
    def test_nothing_to_do(self):
        done = run_sidecar("run")
        assert done.returncode == 1
        assert "upstream" in done.stderr

    def test_a_bad_file_never_starts_half_way(self, tmp_path):
        file = tmp_path / "bad.yaml"
        file.write_text(
            "upstreams:\n  app: {url: 'http://127.0.0.1:1', timeout: 1}\nroutes: [{name: a, upstream: b}]\n"
        )
        done = run_sidecar("run", "--config", str(file))
        assert done.returncode == 1
        assert f"{file}:2: upstreams.app.timeout: " in done.stderr
        assert f"{file}:3: routes.0.upstream: " in done.stderr
        assert done.stdout == ""

    def test_a_missing_file(self, tmp_path):
        done = run_sidecar("run", "--config", str(tmp_path / "nowhere.yaml"))
        assert done.returncode == 1
        assert "nowhere.yaml" in done.stderr

    def test_an_unknown_flag(self):
        assert run_sidecar("run", "--upstreams", "x").returncode == 2

    @pytest.mark.parametrize("which", ["listen", "admin"])
    def test_a_port_that_is_taken(self, upstream, which):
        ports = {"listen": free_port(), "admin": free_port()}
        ports[which] = upstream.port
        flags = [part for name, port in ports.items() for part in (f"--{name}", f"127.0.0.1:{port}")]
        done = run_sidecar("run", "--upstream", upstream.url, *flags)
        assert done.returncode == 1
        assert str(upstream.port) in done.stderr
        assert "Traceback" not in done.stderr + done.stdout

    def test_help_and_version(self):
        assert VERSION in run_sidecar("version").stdout
        assert "--upstream" in run_sidecar("run", "--help").stdout


class TestAdmin:
    def test_health(self, bare):
        assert bare.get("/healthz").json()["status"] == "ok"
        assert bare.get("/readyz").status_code == 200

    def test_metrics_in_both_formats(self, bare):
        with bare.client() as client:
            client.request("GET", "/")
        text = bare.get("/metrics")
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
        names = {family.name for family in parse_prometheus(text.text)}
        assert {"http_requests", "http_request_duration_ms", "circuit_breaker_state", "build_info"} <= names
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        openmetrics = bare.get("/metrics", headers=accept)
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert {family.name for family in parse_openmetrics(openmetrics.text)} >= names

    def test_a_port_for_scrapers_alone(self, start_sidecar, upstream):
        port = free_port()
        start_sidecar(config_for(upstream.url, metrics={"bind": f"127.0.0.1:{port}"}))
        base = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base, trust_env=False, timeout=PATIENCE) as client:
            assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
            assert [client.get(path).status_code for path in ("/", "/admin/status")] == [404, 404]

    def test_unknown_paths_and_methods(self, bare):
        response = bare.get("/nowhere")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")
        assert bare.ask("DELETE", "/healthz").status_code == 405


class TestSidecarMadeAnswers:
    def test_their_form(self, bare):
        with bare.client() as client:
            client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
            response = client.response()
        assert refusal(response) == (501, "NOT_IMPLEMENTED")
        assert set(json.loads(response.body)) == {"error"}

    @pytest.mark.parametrize(
        ("accept", "problem"),
        [
            ("application/problem+json", True),
            ("text/html, application/problem+json;q=0.5", True),
            ("Application/Problem+JSON", True),
            ("application/json", False),
            ("*/*", False),
        ],
    )
    def test_problem_details_for_those_who_ask(self, bare, upstream, accept, problem):
        """RFC 9457."""
        upstream.reply = Reply([Do.CLOSE])
        with bare.client() as client:
            response = client.request("POST", "/", f"Accept: {accept}", "X-Correlation-ID: p1", body=b"")
        assert (response.status, response["x-sidecar-reason"]) == (502, b"upstream_unreachable")
        if not problem:
            assert error_of(response)["correlation_id"] == "p1"
            return
        assert response["content-type"] == b"application/problem+json"
        body = json.loads(response.body)
        assert (body["status"], body["code"], body["correlation_id"]) == (502, "UPSTREAM_UNREACHABLE", "p1")
        assert body["title"]
        assert body["detail"]

    def test_they_cannot_be_mistaken_for_the_upstreams(self, bare, upstream):
        upstream.reply = Reply([answer(b"mine", "X-Sidecar-Reason: forged", status="502 Bad Gateway")])
        with bare.client() as client:
            response = client.request("POST", "/", body=b"")
        assert (response.status, response.body) == (502, b"mine")
        assert "x-sidecar-reason" not in response

    def test_a_request_that_comes_back(self, start_sidecar):
        """The sidecar is its own upstream: the circle is seen at its first turn."""
        port = free_port()
        sidecar = start_sidecar(config_for(f"http://127.0.0.1:{port}"), port=port)
        with sidecar.client() as client:
            response = client.request("GET", "/")
        assert (response.status, json.loads(response.body)["error"]["code"]) == (508, "LOOP_DETECTED")
        assert sidecar.access_line(status=508, attempts=0)["cause"] == "via"
        assert len(sidecar.access_lines(status=508)) == 2


def test_the_annotated_example_runs_as_it_is(start_sidecar, upstream):
    """Its ports are its own; nothing else is changed."""
    example = yaml.safe_load(
        (ROOT / "config" / "sidecar.yaml")
        .read_text()
        .replace("${REDIS_URL:-memory://}", "memory://")
        .replace("${DATABASE_URL:-none}", "none")
        .replace("${SIDECAR_ADMIN_TOKEN:-}", "''")
        .replace("${APP_URL:-http://127.0.0.1:3000}", upstream.url)
        .replace("${PAYMENTS_URL:-https://payments.internal}", "https://payments.internal")
    )
    for name in ("listeners", "admin", "metrics", "spool"):
        del example[name]
    example["listeners"] = [
        {"name": "ingress", "bind": f"127.0.0.1:{(port := free_port())}"},
        {"name": "egress", "bind": f"127.0.0.1:{free_port()}"},
    ]
    start_sidecar(example)
    with Client(("127.0.0.1", port)) as client:
        assert client.request("GET", "/").status == 200
        assert error_of(client.request("POST", "/api/v1/requests", body=b"{}"))["code"] == (
            "IDEMPOTENCY_KEY_MISSING"
        )


def test_curl_is_all_it_takes(bare):
    program = shutil.which("curl")
    assert program, "these tests need curl on the PATH"
    command = [program, "-sS", "--noproxy", "*", "--max-time", "10", "-d", "a=1", f"{bare.url}/x"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, b"ok")
