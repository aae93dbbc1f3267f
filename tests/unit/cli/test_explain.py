import re

import pytest
from typer.testing import CliRunner

from sidecar.cli.app import app

CONFIG = """\
listeners:
  - {name: ingress, bind: 0.0.0.0:8080}
  - {name: egress, bind: 127.0.0.1:8081, correlation: {inbound: regenerate}}
idempotency: {lease: 20s}
store_timeout: 300ms
upstreams:
  app: {url: http://127.0.0.1:3000, timeouts: {total: none}}
  pay: {urls: [https://a, https://b]}
routes:
  - name: create
    match: {listener: ingress, path: /things, methods: [POST]}
    upstream: app
    fallback: pay
    idempotency: {ttl: 1h}
  - {name: thing, match: {path: "/things/{id}"}, upstream: app, idempotency: off}
  - {name: pay, match: {listener: egress, host: pay.local}, upstream: pay}
"""


@pytest.fixture
def explain(monkeypatch, tmp_path):
    for name in ("REDIS_URL", "DATABASE_URL", "SIDECAR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.yaml").write_text(CONFIG)

    def explained(*arguments, config="sidecar.yaml"):
        flags = ("--config", config) if config else ()
        result = CliRunner().invoke(app, ["explain", *arguments, *flags])
        return result.exit_code, result.output

    return explained


def settings_in(output):
    """Each setting's value and origin, by its name; where names repeat, the first counts."""
    found = {}
    for line in output.splitlines():
        columns = re.split(r"\s{2,}", line.strip())
        if line.startswith("  ") and len(columns) == 3:
            found.setdefault(columns[0], tuple(columns[1:]))
    return found


def test_the_route_its_settings_and_where_they_were_set(explain):
    code, output = explain("POST", "/things?x=1", "--listener", "ingress")
    assert code == 0
    assert output.splitlines()[0] == "POST /things?x=1: route create (sidecar.yaml:10)"
    assert "upstream app: http://127.0.0.1:3000" in output
    assert "fallback pay: https://a:443, https://b:443" in output
    settings = settings_in(output)
    assert settings["idempotency.ttl"] == ("1h", "sidecar.yaml:14")
    assert settings["idempotency.lease"] == ("20s", "sidecar.yaml:4")
    assert settings["idempotency.store_timeout"] == ("300ms", "sidecar.yaml:5")
    assert settings["idempotency.scope"] == ("[Authorization]", "default")
    assert settings["timeouts.total"] == ("none", "sidecar.yaml:7")
    assert settings["timeouts.connect"] == ("1s", "default")
    assert settings["audit"] == ("off", "default")
    assert settings["header_bytes"] == ("64KiB", "default")


def test_path_parameters(explain):
    code, output = explain("get", "/things/%37/", "--listener", "ingress")
    assert (code, output) == (1, "GET /things/%37/: no route takes it (404 NO_ROUTE)\n")
    code, output = explain("get", "/things/%37", "--listener", "ingress")
    assert output.splitlines()[:2] == ["GET /things/%37: route thing (sidecar.yaml:15)", "  {id} = 7"]
    assert settings_in(output)["idempotency"] == ("off", "sidecar.yaml:15")


def test_listeners_that_differ_are_told_apart(explain):
    code, output = explain("POST", "/things", "--host", "pay.local")
    assert code == 0
    assert "POST /things on ingress: route create" in output
    assert "POST /things on egress: route pay" in output
    egress = output[output.index("correlation on egress") :]
    assert settings_in(egress)["inbound"] == ("regenerate", "sidecar.yaml:3")


def test_one_that_no_listener_takes(explain):
    assert explain("GET", "/nowhere") == (1, "GET /nowhere: no route takes it (404 NO_ROUTE)\n")


def test_without_a_file(explain):
    code, output = explain("GET", "/", "--upstream", "http://127.0.0.1:3000", config=None)
    assert code == 0
    assert output.startswith("GET /: route default (default)\n")


def test_an_unknown_listener(explain):
    code, output = explain("GET", "/", "--listener", "engress")
    assert code == 2
    assert "there is no listener engress: there is ingress, egress" in " ".join(output.split())


def test_a_bad_configuration(explain):
    code, output = explain("GET", "/", config="missing.yaml")
    assert (code, output) == (1, "missing.yaml: cannot be read: No such file or directory\n")
