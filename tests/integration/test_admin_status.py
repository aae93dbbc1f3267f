"""The admin port of a real sidecar: status, configuration, routes, reload, drain, log level, description."""

from __future__ import annotations

import threading

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.sidecar import UUID7, config_for
from tests.support.upstream import OK, Reply
from tests.support.waiting import eventually


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def error_of(response):
    error = response.json()["error"]
    assert response.headers["x-sidecar-reason"] == error["code"].lower()
    assert response.headers["x-correlation-id"] == error["correlation_id"]
    assert UUID7.fullmatch(error["correlation_id"].encode())
    return error


def change_lines(sidecar):
    return [line for line in sidecar.logs() if line["event"].startswith("admin change")]


def test_status_says_how_the_sidecar_is(sidecar):
    status = sidecar.get("/admin/status").json()
    assert status["version"]
    assert 0 < status["uptime"] < 60
    assert status["draining"] is False
    assert status["ready"] is True
    assert status["pid"] == sidecar.process.pid
    assert status["store"] == {"url": "memory://", "reachable": True, "problem": None}
    assert status["log_level"] == "info"


def test_the_configuration_is_shown_with_secrets_masked(start_sidecar, upstream):
    sidecar = start_sidecar(
        config_for(
            upstream.url,
            store="redis://:hunter2@127.0.0.1:1/0",
            admin={"bind": "127.0.0.1:${ADMIN_PORT}", "token": "s3cret-token"},
        ),
        env={"ADMIN_PORT": "0"},
        expect_ready=False,
    )
    port = sidecar.wait_log(lambda line: line["event"] == "started", "it has started")["admin"]
    address = f"http://127.0.0.1:{port}/admin"
    with httpx.Client(headers={"Authorization": "Bearer s3cret-token"}, trust_env=False) as client:
        text = client.get(f"{address}/config").text
        assert client.get(f"{address}/config").json()["limits"]["header_bytes"] == "64KiB"
        text += client.get(f"{address}/status").text
    assert "hunter2" not in text
    assert "s3cret-token" not in text
    assert "***@127.0.0.1:1" in text


def test_routes_are_shown_in_order_with_what_applies_to_them(start_sidecar, upstream):
    routes = [
        {
            "name": "pay",
            "match": {"path": "/pay", "methods": ["POST"]},
            "upstream": "app",
            "idempotency": {"ttl": "2h"},
        },
        {"name": "rest", "upstream": "app", "idempotency": "off"},
    ]
    sidecar = start_sidecar({**config_for(upstream.url), "routes": routes, "idempotency": {"lease": "20s"}})
    pay, rest = sidecar.get("/admin/routes").json()["items"]
    assert (pay["name"], pay["match"]["path"], pay["match"]["methods"]) == ("pay", "/pay", ["POST"])
    assert (pay["idempotency"]["ttl"], pay["idempotency"]["lease"]) == ("2h", "20s")
    assert (rest["name"], rest["idempotency"]) == ("rest", "off")


def test_the_log_level_changes_while_running(sidecar):
    response = ask(sidecar, "PUT", "/admin/log-level", json={"level": "ERROR", "reason": "too much"})
    assert response.json() == {"level": "error"}
    eventually(lambda: sidecar.get("/admin/status").json()["log_level"] == "error", "the level is in force")
    with sidecar.client() as client:
        client.request("GET", "/unlogged")
    assert ask(sidecar, "PUT", "/admin/log-level", json={"level": "info"}).status_code == 200
    with sidecar.client() as client:
        client.request("GET", "/logged")
    sidecar.access_line(path="/logged")
    assert sidecar.access_lines(path="/unlogged") == []
    (line,) = change_lines(sidecar)  # the one under the level "error" is not written
    assert (line["who"], line["what"], line["why"]) == ("127.0.0.1", "PUT /admin/log-level", "too much")


def test_a_level_that_is_none_is_refused(sidecar):
    for body in ({"level": "loud"}, {"level": 3}, {}, {"level": "info", "for": "5m"}):
        response = ask(sidecar, "PUT", "/admin/log-level", json=body)
        assert response.status_code == 400
        assert error_of(response)["code"] == "BAD_REQUEST"


def test_a_reload_takes_over_a_good_file(sidecar, upstream):
    sidecar.write(config_for(upstream.url, limits={"headers": 50}))
    response = ask(sidecar, "POST", "/admin/reload", json={"reason": "fewer headers"})
    assert (response.status_code, response.json()) == (200, {"reloaded": True})
    assert sidecar.get("/admin/config").json()["limits"]["headers"] == 50
    assert sidecar.wait_log(lambda line: line.get("why") == "fewer headers", "the line of the reload")


def test_a_reload_of_a_bad_file_tells_every_mistake(sidecar, upstream):
    sidecar.write({**config_for(upstream.url), "limmits": {}, "drain_timeout": "soon"})
    response = ask(sidecar, "POST", "/admin/reload")
    assert response.status_code == 422
    error = error_of(response)
    assert error["code"] == "CONFIGURATION_INVALID"
    assert len(error["mistakes"]) == 2
    assert all(
        mistake.startswith("sidecar.yaml:") or "sidecar.yaml:" in mistake for mistake in error["mistakes"]
    )
    assert any("did you mean limits?" in mistake for mistake in error["mistakes"])
    status = sidecar.get("/admin/status").json()
    assert status["configuration"]["mistakes"] == error["mistakes"]
    with sidecar.client() as client:
        assert client.request("GET", "/still").status == 200


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("service", {"service": "another"}),
        ("store", {"store": "redis://127.0.0.1:1"}),
        ("log.format", {"log": {"format": "console"}}),
    ],
)
def test_a_reload_refuses_what_needs_a_restart(sidecar, upstream, key, section):
    sidecar.write({**config_for(upstream.url), "limits": {"headers": 50}, **section})
    response = ask(sidecar, "POST", "/admin/reload")
    assert response.status_code == 422
    (mistake,) = error_of(response)["mistakes"]
    assert mistake.startswith(f"{key}: ")
    assert "restart" in mistake
    assert sidecar.get("/admin/config").json()["limits"]["headers"] == 100  # nothing of the file is in force


def test_a_new_token_is_in_force_after_a_reload(start_sidecar, upstream):
    sidecar = start_sidecar(config_for(upstream.url))
    bind = f"127.0.0.1:{sidecar.admin_port}"
    sidecar.write(config_for(upstream.url, admin={"bind": bind, "token": "new-token"}))
    assert ask(sidecar, "POST", "/admin/reload").status_code == 200
    assert ask(sidecar, "GET", "/admin/status").status_code == 401
    with_token = {"Authorization": "Bearer new-token"}
    assert ask(sidecar, "GET", "/admin/status", headers=with_token).status_code == 200


def test_a_drain_finishes_what_is_under_way_and_ends_the_process(sidecar, upstream):
    goes_on = threading.Event()
    upstream.reply = Reply((goes_on, OK))
    with sidecar.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        upstream.wait_request("/slow")
        response = ask(sidecar, "POST", "/admin/drain", json={"reason": "moving"})
        assert (response.status_code, response.json()) == (202, {"draining": True, "in_flight": 1})
        assert sidecar.get("/readyz").status_code == 503
        assert sidecar.get("/admin/status").json()["draining"] is True
        goes_on.set()
        answer = client.response()
        assert (answer.status, answer.values("connection")) == (200, [b"close"])
    assert sidecar.process.wait() == 0


def test_a_drain_with_nothing_under_way_can_be_seen_before_the_end(sidecar):
    assert ask(sidecar, "POST", "/admin/drain").status_code == 202
    assert sidecar.get("/readyz").json() == {"status": "unavailable", "reason": "draining"}
    assert sidecar.process.wait() == 0


def test_the_description_is_openapi(sidecar):
    document = sidecar.get("/openapi.json").json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert "/admin/upstreams/{name}/breaker" in document["paths"]


def test_what_is_not_there_is_said_in_the_sidecars_form(sidecar):
    missing = sidecar.get("/admin/nothing")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "NOT_FOUND")
    wrong = ask(sidecar, "DELETE", "/admin/status")
    assert (wrong.status_code, error_of(wrong)["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["allow"] == "GET"
    problem = sidecar.get("/admin/nothing", headers={"Accept": "application/problem+json"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert (problem.json()["status"], problem.json()["code"]) == (404, "NOT_FOUND")


def test_an_id_that_is_given_comes_back(sidecar):
    response = sidecar.get("/admin/status", headers={"X-Correlation-ID": "ops-1"})
    assert response.headers["x-correlation-id"] == "ops-1"


def test_what_is_no_call_is_refused(sidecar):
    for body in [b"{", b"[]", b'{"levle": "info"}', b"\xff\xfe"]:
        response = ask(sidecar, "PUT", "/admin/log-level", content=body)
        assert (response.status_code, error_of(response)["code"]) == (400, "BAD_REQUEST")


def test_bodies_are_bounded(sidecar):
    response = ask(sidecar, "PUT", "/admin/log-level", content=b" " * 100_000)
    assert (response.status_code, error_of(response)["code"]) == (413, "BODY_TOO_LARGE")


def test_parameters_that_nobody_knows_are_refused(sidecar):
    response = sidecar.get("/admin/status?verbose=1")
    assert (response.status_code, error_of(response)["code"]) == (400, "BAD_REQUEST")
