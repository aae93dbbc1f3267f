"""Idempotency records through the admin port and through `sidecar keys`, with memory and with Valkey."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.contract.redis_servers import Server
from tests.support.processes import ROOT
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, answer
from tests.support.waiting import PATIENCE

KEY = "order-4711"
SECRET_BODY = b'{"iban": "DE00 1234"}'
AUTHORIZATION = "Bearer caller-secret"


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def post(sidecar, key=KEY, path="/orders", body=SECRET_BODY, **headers):
    with sidecar.client() as client:
        fields = [f"Idempotency-Key: {key}", f"Authorization: {AUTHORIZATION}"]
        return client.request("POST", path, *fields, body=body)


def find(sidecar, key=KEY, **content):
    content = {"route": "default", "key": key, "headers": {"Authorization": AUTHORIZATION}, **content}
    return ask(sidecar, "POST", "/admin/idempotency/find", json=content)


def lose(sidecar, upstream, key=KEY):
    """A request whose outcome nobody knows; its record's id."""
    upstream.replies["/lost"] = Reply((Do.RESET,))
    assert post(sidecar, key, "/lost").status == 504
    return find(sidecar, key).json()["id"]


@pytest.fixture(params=["memory", "valkey"])
def keeper(request, start_sidecar, upstream, tmp_path):
    """A sidecar with each kind of store."""
    if request.param == "memory":
        yield start_sidecar(config_for(upstream.url))
        return
    server = Server("valkey", tmp_path)
    try:
        yield start_sidecar(config_for(upstream.url, store=server.url))
    finally:
        server.close()


def test_a_record_is_found_by_its_key_and_shown_without_it(keeper, upstream):
    upstream.reply = Reply((answer(SECRET_BODY, status="201 Created"),))
    assert post(keeper).status == 201
    found = find(keeper)
    record = found.json()
    assert (found.status_code, record["state"], record["status"], record["route"]) == (
        200,
        "COMPLETED",
        201,
        "default",
    )
    assert record["completed_at"] >= record["created_at"]
    assert (record["lease_until"], record["unknown_since"]) == (None, None)
    assert record["correlation_id"]
    assert ask(keeper, "GET", f"/admin/idempotency/{record['id']}").json() == record
    listed = ask(keeper, "GET", "/admin/idempotency")
    assert listed.json() == {"items": [record], "cursor": None}
    for text in (found.text, listed.text, "\n".join(keeper.process.stdout.all())):
        for secret in (KEY, "DE00", "caller-secret"):
            assert secret not in text
    assert find(keeper, headers={"Authorization": "Bearer somebody-else"}).status_code == 404
    assert find(keeper, route="nothing").status_code == 404
    assert find(keeper, key="another").status_code == 404
    malformed = find(keeper, key="a b")
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (400, "IDEMPOTENCY_KEY_INVALID")


def test_a_released_key_executes_again(keeper, upstream):
    record_id = lose(keeper, upstream)
    record = ask(keeper, "GET", f"/admin/idempotency/{record_id}").json()
    assert (record["state"], record["unknown_because"], record["status"]) == ("UNKNOWN", "reset", None)
    assert record["unknown_since"]
    assert post(keeper, path="/lost").status == 409
    released = ask(
        keeper, "POST", f"/admin/idempotency/{record_id}/release", json={"reason": "it was not charged"}
    )
    assert (released.status_code, released.json()) == (200, {"id": record_id, "released": True})
    line = keeper.wait_log(lambda line: line["event"] == "admin change", "the release is told")
    assert (line["what"], line["why"]) == (
        f"POST /admin/idempotency/{record_id}/release",
        "it was not charged",
    )
    upstream.replies["/lost"] = Reply()
    assert post(keeper, path="/lost").status == 200
    assert len(upstream.on("/lost")) == 2


def test_a_resolved_key_is_answered_with_what_the_operator_says(keeper, upstream):
    record_id = lose(keeper, upstream)
    resolution = {
        "status": 201,
        "headers": {"Location": "/orders/1", "Link": ["<a>", "<b>"], "Set-Cookie": "never"},
        "body": {"id": 1},
        "reason": "the bank has it",
    }
    resolved = ask(keeper, "POST", f"/admin/idempotency/{record_id}/resolve", json=resolution)
    assert (resolved.status_code, resolved.json()["state"], resolved.json()["status"]) == (
        200,
        "COMPLETED",
        201,
    )
    replay = post(keeper, path="/lost")
    assert (replay.status, replay.body) == (201, b'{"id":1}')
    assert replay.values("x-idempotent-replayed") == [b"true"]
    assert replay.values("location") == [b"/orders/1"]
    assert replay.values("link") == [b"<a>", b"<b>"]
    assert replay.values("content-type") == [b"application/json"]
    assert replay.values("set-cookie") == []
    assert len(upstream.on("/lost")) == 1
    again = ask(keeper, "POST", f"/admin/idempotency/{record_id}/resolve", json=resolution)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "CONFLICT")


def test_only_unknown_outcomes_are_decided(keeper, upstream):
    assert post(keeper, "done").status == 200
    upstream.replies["/slow"] = lambda connection, request: None
    with keeper.client() as client:
        client.send(
            b"POST /slow HTTP/1.1\r\nHost: test\r\nIdempotency-Key: running\r\nContent-Length: 1\r\n\r\nx"
        )
        upstream.wait_request("/slow")
        running = find(keeper, "running", headers={}).json()
        assert (running["state"], running["status"]) == ("EXECUTING", None)
        assert running["lease_until"] > running["created_at"]
        for record_id in (find(keeper, "done").json()["id"], running["id"]):
            for action, content in (("release", {}), ("resolve", {"status": 200})):
                refused = ask(keeper, "POST", f"/admin/idempotency/{record_id}/{action}", json=content)
                assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CONFLICT")


def test_lists_go_by_state_and_route_in_pages(keeper, upstream):
    for number in range(5):
        post(keeper, f"done-{number}")
    lost = {lose(keeper, upstream, f"lost-{number}") for number in range(3)}
    unknown = ask(keeper, "GET", "/admin/idempotency?state=unknown&route=default").json()
    assert {record["id"] for record in unknown["items"]} == lost
    assert ask(keeper, "GET", "/admin/idempotency?route=other").json()["items"] == []
    seen, cursor = [], ""
    while cursor is not None:
        page = ask(keeper, "GET", f"/admin/idempotency?limit=3&cursor={cursor}").json()
        assert len(page["items"]) <= 3
        seen += [record["id"] for record in page["items"]]
        cursor = page["cursor"]
    assert len(set(seen)) == 8


def test_a_list_that_cannot_be_is_refused(sidecar):
    for query in ["state=lost", "limit=0", "limit=1001", "limit=x", "sort=id", "limit=1&limit=2"]:
        response = ask(sidecar, "GET", f"/admin/idempotency?{query}")
        assert (response.status_code, response.json()["error"]["code"]) == (400, "BAD_REQUEST")


def test_a_resolution_that_is_no_response_is_refused(sidecar):
    for content, status in [
        ({}, 400),
        ({"status": 199}, 400),
        ({"status": 600}, 400),
        ({"status": "200"}, 400),
        ({"status": 200, "headers": {"a b": "c"}}, 400),
        ({"status": 200, "headers": {"a": "c\r\nd: e"}}, 400),
        ({"status": 200, "headers": {"a": 1}}, 400),
        ({"status": 200, "headers": {"a": "ü€"}}, 400),
        ({"status": 200, "headers": []}, 400),
        ({"status": 200, "headers": {f"a{n}": "b" for n in range(101)}}, 400),
        ({"status": 204, "body": "x"}, 400),
        ({"status": 200, "text": "x"}, 400),
        ({"status": 200, "body": "x" * (1 << 20 | 1)}, 413),
    ]:
        response = ask(sidecar, "POST", f"/admin/idempotency/{'0' * 64}/resolve", json=content)
        assert response.status_code == status


def test_a_record_that_is_not_there_is_404(sidecar):
    for record_id in ["0" * 64, "nothing", "..%2f..", "%00"]:
        for method, action, content in (
            ("GET", "", None),
            ("POST", "/release", {}),
            ("POST", "/resolve", {"status": 200}),
        ):
            response = ask(sidecar, method, f"/admin/idempotency/{record_id}{action}", json=content)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")


def test_a_store_that_is_down_is_503(start_sidecar, upstream, tmp_path):
    server = Server("valkey", tmp_path)
    sidecar = start_sidecar(config_for(upstream.url, store=server.url))
    server.kill()
    for response in (ask(sidecar, "GET", "/admin/idempotency"), find(sidecar)):
        assert (response.status_code, response.json()["error"]["code"]) == (
            503,
            "IDEMPOTENCY_STORE_UNAVAILABLE",
        )
        assert response.headers["retry-after"]


# --- the command line


def keys(sidecar, *arguments, given="", code=0):
    command = [sys.executable, "-m", "sidecar", "keys", *arguments, "--admin", sidecar.admin]
    done = subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_an_operator_decides_from_the_command_line(sidecar, upstream):
    assert "no records" in keys(sidecar, "list")
    first, second = lose(sidecar, upstream, "first"), lose(sidecar, upstream, "second")
    table = keys(sidecar, "list", "--state", "UNKNOWN")
    assert first in table
    assert second in table
    lines = [json.loads(line) for line in keys(sidecar, "list", "--json", "--limit", "1").splitlines()]
    assert len(lines) == 1
    header = f"Authorization: {AUTHORIZATION}"
    found = json.loads(
        keys(sidecar, "find", "--route", "default", "--key", "-", "--header", header, given="first\n")
    )
    assert (found["id"], found["state"]) == (first, "UNKNOWN")
    assert json.loads(keys(sidecar, "show", first)) == found
    assert first in keys(sidecar, "release", first, "--reason", "never happened")
    resolve = ["resolve", second, "--status", "201", "--header", "Location: /1", "--body", "made"]
    assert "as 201" in keys(sidecar, *resolve, "--reason", "it did")
    replay = post(sidecar, "second", "/lost")
    assert (replay.status, replay.body, replay.values("location")) == (201, b"made", [b"/1"])
    assert "404" in keys(sidecar, "show", first, code=1)
    assert "409" in keys(sidecar, "release", second, code=1)
    whys = [line["why"] for line in sidecar.logs() if line["event"] == "admin change"]
    assert whys == ["never happened", "it did"]


def test_a_sidecar_that_is_not_there_is_said_so(sidecar):
    command = [sys.executable, "-m", "sidecar", "keys", "list", "--admin", "http://127.0.0.1:1"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE * 2, check=False
    )
    assert done.returncode == 2
    assert "no sidecar answers at http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
