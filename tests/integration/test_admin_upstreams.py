"""Upstreams as operators see them, and what they decide in the place of breakers."""

from __future__ import annotations

from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import answer
from tests.support.waiting import eventually


def override(sidecar, content, name="app"):
    return sidecar.ask("PUT", f"/admin/upstreams/{name}/breaker", json=content)


def breaker_of(sidecar):
    return sidecar.get("/admin/upstreams/app").json()["hosts"][0]["breaker"]


def status_of(sidecar, path="/"):
    with sidecar.client() as client:
        return client.request("GET", path).status


def test_every_upstream_is_listed_with_its_hosts(start_sidecar, upstream):
    config = config_for(upstream.url)
    config["upstreams"]["other"] = {
        "urls": ["http://127.0.0.1:1", "http://127.0.0.1:2"],
        "bulkhead": {"max_concurrent": 7},
    }
    config["routes"].insert(0, {"name": "other", "match": {"prefix": "/other"}, "upstream": "other"})
    sidecar = start_sidecar(config)
    status_of(sidecar)
    app, other = sidecar.get("/admin/upstreams").json()["items"]
    assert [host["host"] for host in other["hosts"]] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert other["bulkhead"]["limit"] == 7
    (host,) = app["hosts"]
    assert host["connections"] == {"open": 1, "idle": 1}
    assert host["breaker"]["state"] == "closed"
    assert host["breaker"]["counts"]["calls"] == 1
    assert sidecar.get("/admin/upstreams/other").json() == other
    missing = sidecar.get("/admin/upstreams/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")


def test_what_is_in_flight_is_counted(sidecar, upstream):
    with sidecar.client() as client:
        upstream.reply = lambda connection, request: None
        client.send(b"GET /never HTTP/1.1\r\nHost: test\r\n\r\n")
        upstream.wait_request("/never")
        app = sidecar.get("/admin/upstreams/app").json()
        assert (app["in_flight"], app["bulkhead"]["in_use"], app["hosts"][0]["in_flight"]) == (1, 1, 1)


def test_a_breaker_that_is_forced_open_refuses_and_tells_for_how_long(sidecar, upstream):
    assert status_of(sidecar) == 200
    response = override(sidecar, {"mode": "forced_open", "for": "5m", "reason": "maintenance"})
    assert response.status_code == 200
    breaker = response.json()["hosts"][0]["breaker"]
    assert (breaker["state"], breaker["reason"]) == ("open", "forced_open")
    assert (breaker["override"]["mode"], breaker["override"]["reason"]) == ("forced_open", "maintenance")
    before = len(upstream.requests)
    with sidecar.client() as client:
        refused = client.request("GET", "/")
    assert (refused.status, refused.values("x-sidecar-reason")) == (503, [b"circuit_open"])
    assert 295 <= int(refused.values("retry-after")[0]) <= 300
    assert len(upstream.requests) == before
    assert sidecar.metric("circuit_breaker_state", upstream="app") == 2
    assert override(sidecar, {"mode": "auto"}).json()["hosts"][0]["breaker"]["state"] == "closed"
    assert status_of(sidecar) == 200


def test_an_override_ends_by_itself(sidecar):
    override(sidecar, {"mode": "forced_open", "for": "300ms"})
    assert status_of(sidecar) == 503
    eventually(lambda: breaker_of(sidecar)["override"] is None, "the override has ended")
    assert breaker_of(sidecar)["state"] == "closed"
    assert status_of(sidecar) == 200


def test_a_breaker_that_is_forced_closed_never_opens(start_sidecar):
    config = config_for(f"http://127.0.0.1:{free_port()}")
    config["upstreams"]["app"] |= {"breaker": {"failure_threshold": 1}, "retry": {"max_attempts": 1}}
    sidecar = start_sidecar(config)
    override(sidecar, {"mode": "forced_closed", "for": "1m", "reason": "testing"})
    assert [status_of(sidecar) for _ in range(3)] == [502, 502, 502]
    override(sidecar, {"mode": "observe", "for": "1m"})
    assert [status_of(sidecar) for _ in range(3)] == [502, 502, 502]
    assert breaker_of(sidecar)["state"] == "open"
    override(sidecar, {"mode": "auto"})
    assert [status_of(sidecar) for _ in range(2)] == [503, 503]


def test_a_reload_keeps_what_a_breaker_knows_and_what_was_decided(sidecar, upstream):
    upstream.reply = lambda connection, request: connection.send(answer(status="503 Busy"))
    override(sidecar, {"mode": "forced_closed", "for": "1m", "reason": "wait for it"})
    changed = config_for(upstream.url)
    changed["upstreams"]["app"] |= {"breaker": {"failure_threshold": 2}}
    sidecar.write(changed)
    sidecar.reload()
    assert breaker_of(sidecar)["override"]["reason"] == "wait for it"
    override(sidecar, {"mode": "auto"})
    assert [status_of(sidecar, "/a") for _ in range(3)][-1] == 503
    assert breaker_of(sidecar)["state"] == "open"


def test_an_override_that_is_none_changes_nothing(sidecar):
    for content in [
        {},
        {"mode": "open", "for": "5m"},
        {"mode": "forced_open"},
        {"mode": "forced_open", "for": "5"},
        {"mode": "forced_open", "for": "-5m"},
        {"mode": "forced_open", "for": "0s"},
        {"mode": "forced_open", "for": "31d"},
        {"mode": "forced_open", "for": 300},
        {"mode": "forced_open", "for": "5m", "until": "noon"},
        {"mode": "forced_open", "for": "5m", "reason": "x" * 501},
    ]:
        response = override(sidecar, content)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "BAD_REQUEST")
        assert breaker_of(sidecar)["override"] is None
        assert breaker_of(sidecar)["state"] == "closed"
