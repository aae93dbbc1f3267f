"""Requests that find no working upstream are kept on routes that ask for it, and sent again later."""

from __future__ import annotations

import base64
import json
import socket
import threading

import pytest

from tests.contract.redis_servers import Server
from tests.support.client import HTTP
from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, Upstream, answer
from tests.support.waiting import PATIENCE, eventually

TYPE = "HTTP_REQUEST"
BODY = b'{"amount": 1.10}'
SECRETS = {
    "Authorization": "Bearer s3cret",
    "Cookie": "session=s3cret",
    "X-Api-Key": "s3cret",
    "X-Auth-Token": "s3cret",
}


def config(url, **upstream):
    sections = config_for(url)
    sections["upstreams"]["app"] |= {"retry": {"max_attempts": 2, "initial_delay": "1ms"}, **upstream}
    sections["routes"] = [
        {"name": "plain", "match": {"prefix": "/plain"}, "upstream": "app"},
        {"name": "kept", "match": {"prefix": "/"}, "upstream": "app", "dead_letter": True},
    ]
    return sections


@pytest.fixture
def port():
    """Where the upstream will be, once it is there."""
    return free_port()


@pytest.fixture
def sidecar(start_sidecar, port):
    return start_sidecar(config(f"http://127.0.0.1:{port}"))


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def send(sidecar, method="POST", path="/pay?x=1", **options):
    options.setdefault("content", BODY)
    return HTTP.request(method, sidecar.url + path, **options)


def letters(sidecar):
    return ask(sidecar, "GET", f"/admin/dlq/{TYPE}").json()["items"]


def retry(sidecar, record_id, **content):
    return ask(sidecar, "POST", f"/admin/dlq/{TYPE}/{record_id}/retry", json=content)


def close_breaker(sidecar):
    content = {"mode": "forced_closed", "for": "1m", "reason": "test"}
    assert ask(sidecar, "PUT", "/admin/upstreams/app/breaker", json=content).status_code == 200


def test_a_request_that_finds_nobody_is_kept_and_its_answer_names_it(sidecar, port):
    answered = send(sidecar, headers={"X-Correlation-ID": "corr-1", "X-Note": "hello", **SECRETS})
    assert answered.status_code == 502
    assert answered.json()["error"]["code"] == "UPSTREAM_UNREACHABLE"
    (record,) = letters(sidecar)
    assert answered.headers["X-Dead-Letter-ID"] == record["id"]
    request = record["request"]
    assert (request["method"], request["target"], request["body"]) == ("POST", "/pay?x=1", BODY.decode())
    fields = {name.lower(): value for name, value in request["headers"]}
    assert (fields["host"], fields["x-note"]) == (f"127.0.0.1:{sidecar.port}", "hello")
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert "s3cret" not in json.dumps(record)
    assert (record["correlation_id"], record["reason"]) == ("corr-1", "connect_refused")
    assert record["origin"] == {"kind": "upstream", "upstream": "app", "route": "kept"}
    assert len(record["attempts"]) == 2  # the first one and its retry
    assert f"127.0.0.1:{port}" in record["attempts"][0]["error"]
    assert sidecar.metric("dlq_depth", event_type=TYPE) == 1


def test_a_retry_sends_it_as_it_was(sidecar, port):
    headers = {"X-Correlation-ID": "corr-1", "X-Note": b"caf\xe9", **SECRETS}
    record_id = send(sidecar, headers=headers).headers["X-Dead-Letter-ID"]
    failed = retry(sidecar, record_id)
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "REDELIVERY_FAILED")
    with Upstream(port=port) as upstream:
        assert retry(sidecar, record_id, reason="it is back").status_code == 200
        (request,) = upstream.requests
        assert (request.method, request.target, request.body) == (b"POST", b"/pay?x=1", BODY)
        assert request["host"] == f"127.0.0.1:{sidecar.port}".encode()
        assert request["x-correlation-id"] == b"corr-1"
        assert request["x-forwarded-for"] == b"127.0.0.1"
        assert request["x-forwarded-host"] == f"127.0.0.1:{sidecar.port}".encode()
        assert request["x-delivery-attempt"] == b"4"
        assert request["x-note"] == b"caf\xe9"
        assert "authorization" not in request
    assert letters(sidecar) == []


def test_behind_an_open_breaker_too(sidecar):
    for _ in range(4):
        last = send(sidecar)
    assert (last.status_code, last.json()["error"]["code"]) == (503, "CIRCUIT_OPEN")
    records = letters(sidecar)
    assert len(records) == 4
    assert records[0]["id"] == last.headers["X-Dead-Letter-ID"]
    assert records[0]["reason"] == "circuit_open"
    failed = retry(sidecar, records[0]["id"])
    assert "CIRCUIT_OPEN" in failed.json()["error"]["message"]
    (attempt,) = ask(sidecar, "GET", f"/admin/dlq/{TYPE}/{records[0]['id']}").json()["attempts"][1:]
    assert attempt["spent"] is False  # nothing was sent


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/pay"), ("HEAD", "/pay"), ("OPTIONS", "/pay"), ("POST", "/plain/pay")]
)
def test_what_changes_nothing_or_goes_by_another_route_is_not_kept(sidecar, method, path):
    answered = send(sidecar, method, path, content=None)
    assert answered.status_code == 502
    assert "X-Dead-Letter-ID" not in answered.headers
    assert letters(sidecar) == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_whatever_changes_something_is_kept(sidecar, method):
    assert "X-Dead-Letter-ID" in send(sidecar, method).headers
    assert [record["request"]["method"] for record in letters(sidecar)] == [method]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "404 Not Found"])
def test_a_request_that_was_answered_is_not_kept(start_sidecar, upstream, status):
    sidecar = start_sidecar(config(upstream.url))
    upstream.reply = Reply((answer(b"no", status=status),))
    answered = send(sidecar)
    assert answered.status_code == int(status[:3])
    assert "X-Dead-Letter-ID" not in answered.headers
    assert letters(sidecar) == []


def test_a_timeout_and_a_reset_are_no_working_upstream(start_sidecar, upstream):
    sidecar = start_sidecar(config(upstream.url, timeouts={"first_byte": "200ms"}))
    gate = threading.Event()
    upstream.replies["/slow"] = Reply((gate,))
    upstream.replies["/reset"] = Reply((Do.RESET,))
    upstream.replies["/nonsense"] = Reply((b"nonsense\r\n\r\n",))
    statuses = [send(sidecar, path=path).status_code for path in ("/slow", "/reset", "/nonsense")]
    gate.set()
    assert statuses == [504, 502, 502]
    assert [record["reason"] for record in letters(sidecar)] == ["status_line", "reset", "first_byte"]


def test_the_whole_body_is_kept_although_it_was_not_asked_for(sidecar):
    """Nobody has connected when the error is known; the client still has most of its body to send."""
    body = bytes(range(256)) * 2048
    answered = send(sidecar, content=body)
    record = ask(sidecar, "GET", f"/admin/dlq/{TYPE}/{answered.headers['X-Dead-Letter-ID']}").json()
    assert base64.b64decode(record["request"]["body_base64"]) == body


def test_a_body_that_comes_in_pieces(sidecar):
    pieces = [b"a" * 10, b"b" * 70_000, b"c"]
    answered = send(sidecar, content=iter(pieces))
    (record,) = letters(sidecar)
    assert answered.headers["X-Dead-Letter-ID"] == record["id"]
    assert record["request"]["body"] == b"".join(pieces).decode()


def test_a_body_that_was_under_way_to_an_upstream_that_broke_off(start_sidecar, upstream):
    sidecar = start_sidecar(config(upstream.url))
    upstream.replies["/pay"] = Reply((Do.RESET,), early=True)
    with sidecar.client() as client:
        client.send(b"POST /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        upstream.wait_request("/pay")
        client.send(b"y" * 100_000)
        response = client.response("POST")
    assert response.status == 502
    (record,) = letters(sidecar)
    assert record["request"]["body"] == "x" * 100_000 + "y" * 100_000


def test_a_body_over_a_mebibyte_is_not_kept_and_the_answer_says_nothing(sidecar):
    answered = send(sidecar, content=b"x" * (1024 * 1024 + 1))
    assert answered.status_code == 502
    assert "X-Dead-Letter-ID" not in answered.headers
    with sidecar.client() as client:  # of which nobody knows how long it will be
        client.send(b"POST /pay HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            client.send(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        response = client.response("POST")
    assert response.status == 502
    assert "x-dead-letter-id" not in response
    assert letters(sidecar) == []


def test_a_request_that_breaks_off_is_not_kept(sidecar):
    with socket.create_connection(sidecar.address) as client:
        client.sendall(b"POST /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    sidecar.access_line(path="/pay")
    assert letters(sidecar) == []


def test_a_client_that_waits_for_a_100_gets_it(sidecar):
    with sidecar.client() as client:
        client.send(b"POST /pay HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client.any_head("POST").status == 100
        client.send(b"abc")
        response = client.response("POST")
    assert response.status == 502
    assert [record["request"]["body"] for record in letters(sidecar)] == ["abc"]


def test_fields_that_are_not_to_be_kept(start_sidecar, port):
    sections = config(f"http://127.0.0.1:{port}")
    sidecar = start_sidecar({**sections, "dead_letters": {"drop_headers": ["X-Customer"]}})
    send(sidecar, headers={"X-Customer": "jane", "X-Note": "hello"})
    names = [name.lower() for name, _ in letters(sidecar)[0]["request"]["headers"]]
    assert "x-note" in names
    assert "x-customer" not in names


# --- with an idempotency key


def keyed(sidecar, key="k-1", **options):
    return send(sidecar, headers={"Idempotency-Key": key, "Authorization": "Bearer s3cret"}, **options)


def test_a_keyed_request_is_sent_again_with_its_key_and_answers_its_client_later(sidecar, port):
    record_id = keyed(sidecar).headers["X-Dead-Letter-ID"]
    with Upstream(port=port) as upstream:
        upstream.reply = Reply((answer(b"done", status="201 Created"),))
        close_breaker(sidecar)
        assert retry(sidecar, record_id).status_code == 200
        (request,) = upstream.requests
        assert request["idempotency-key"] == b"k-1"
        late = keyed(sidecar)
        assert (late.status_code, late.content) == (201, b"done")
        assert late.headers["X-Idempotent-Replayed"] == "true"
        assert len(upstream.requests) == 1


def test_a_key_that_its_client_has_used_meanwhile_is_not_executed_again(sidecar, port):
    record_id = keyed(sidecar).headers["X-Dead-Letter-ID"]
    with Upstream(port=port) as upstream:
        close_breaker(sidecar)
        assert keyed(sidecar).status_code == 200
        assert retry(sidecar, record_id).status_code == 200
        assert len(upstream.requests) == 1
    assert letters(sidecar) == []


def test_a_keyed_request_whose_outcome_is_unknown_waits_for_an_operator(start_sidecar, upstream):
    sidecar = start_sidecar(config(upstream.url))
    upstream.replies["/pay"] = Reply((Do.RESET,))
    answered = keyed(sidecar)
    assert (answered.status_code, answered.json()["error"]["code"]) == (504, "IDEMPOTENCY_OUTCOME_UNKNOWN")
    record_id = answered.headers["X-Dead-Letter-ID"]
    (record,) = letters(sidecar)
    assert (record["id"], record["reason"]) == (record_id, "reset")
    upstream.replies.clear()
    refused = retry(sidecar, record_id)
    assert refused.status_code == 502
    assert "IDEMPOTENCY_OUTCOME_UNKNOWN" in refused.json()["error"]["message"]
    assert len(upstream.on("/pay")) == 1
    claim = record["origin"]["claim"]
    released = ask(sidecar, "POST", f"/admin/idempotency/{claim}/release", json={"reason": "not booked"})
    assert released.status_code == 200
    assert retry(sidecar, record_id).status_code == 200
    assert len(upstream.on("/pay")) == 2


def test_a_retry_whose_answer_is_an_error_is_kept(sidecar, port):
    record_id = send(sidecar).headers["X-Dead-Letter-ID"]
    with Upstream(port=port) as upstream:
        upstream.reply = Reply((answer(b"", status="401 Unauthorized"),))
        failed = retry(sidecar, record_id)
    assert (failed.status_code, failed.json()["error"]["status"]) == (502, 401)
    (record,) = letters(sidecar)
    assert [attempt["status"] for attempt in record["attempts"]] == [None, None, 401]


def test_an_edited_body(sidecar, port):
    record_id = keyed(sidecar).headers["X-Dead-Letter-ID"]
    path = f"/admin/dlq/{TYPE}/{record_id}"
    edited = ask(sidecar, "PUT", path, json={"payload": "amount=2", "reason": "typo"}).json()
    with Upstream(port=port) as upstream:
        close_breaker(sidecar)
        assert retry(sidecar, record_id).status_code == 200
        (request,) = upstream.requests
        assert request.body == b"amount=2"
        assert request["idempotency-key"] == edited["idempotency_key"].encode() != b"k-1"


def test_after_a_restart_and_without_its_route(start_sidecar, port, tmp_path):
    server = Server("valkey", tmp_path)
    try:
        sections = {**config(f"http://127.0.0.1:{port}"), "store": server.url}
        first = start_sidecar(sections)
        record_id = keyed(first).headers["X-Dead-Letter-ID"]
        assert first.stop() == 0
        sections["routes"] = [{"name": "other", "match": {"prefix": "/"}, "upstream": "app"}]
        second = start_sidecar(sections)
        assert second.metric("dlq_depth", event_type=TYPE) == 1
        with Upstream(port=port) as upstream:
            assert retry(second, record_id).status_code == 200
            assert upstream.requests[0]["idempotency-key"] == b"k-1"
        assert second.metric("dlq_depth", event_type=TYPE) == 0
    finally:
        server.close()


def test_where_it_cannot_be_stored_the_answer_promises_nothing(start_sidecar, port, tmp_path):
    server = Server("valkey", tmp_path)
    try:
        sidecar = start_sidecar({**config(f"http://127.0.0.1:{port}"), "store": server.url})
        assert "X-Dead-Letter-ID" in send(sidecar).headers
        server.kill()
        answered = send(sidecar, path="/pay?card=4111")
        assert answered.status_code == 502
        assert "X-Dead-Letter-ID" not in answered.headers
        lost = sidecar.wait_log(lambda line: "is lost" in line.get("message", ""), "the loss is logged")
        assert "route kept" in lost["message"]
        assert "4111" not in lost["message"]
        assert lost["correlation_id"] == answered.headers["X-Correlation-ID"]
        assert len(lost["trace_id"]) == 32
    finally:
        server.close()


def test_hundreds_at_once_are_all_kept(sidecar):
    def post(number):
        answered = send(sidecar, content=b"%d" % number)
        ids.append(answered.headers["X-Dead-Letter-ID"])

    ids: list[str] = []
    threads = [threading.Thread(target=lambda n=n: [post(n * 25 + i) for i in range(25)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(ids)) == 200
    records = ask(sidecar, "GET", f"/admin/dlq/{TYPE}?limit=1000").json()["items"]
    assert sorted(int(record["request"]["body"]) for record in records) == list(range(200))
    eventually(lambda: sidecar.metric("dlq_depth") == 200, "the depth is shown")
