"""What becomes of audited exchanges that are not one small request and one small answer."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support.audit_database import AuditDatabase
from tests.support.audited import CREATED, NIL, REQUEST, USER, Audited, audited, created
from tests.support.pair import Pair
from tests.support.ports import free_port
from tests.support.raw import error_of
from tests.support.upstream import OK, Do, Reply, Upstream
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("audit")

MIB = 1024 * 1024
ROUTES = [
    audited("best"),
    audited("required", mode="required"),
    audited("blind", request_id=REQUEST, new_value="request:"),
    audited("blind-required", request_id=REQUEST, new_value="request:", mode="required"),
    audited("headers", request_id=REQUEST, new_value="done", mode="required"),
    audited("sockets", change_type="OPENED", on_error="record"),
    audited("sockets-required", change_type="OPENED", on_error="record", mode="required"),
    {**audited("kept", mode="required"), "upstream": "nobody", "dead_letter": True},
    {**audited("dedupes"), "upstream": "tries", "upstream_dedupes": True},
    {"name": "default", "match": {"prefix": "/"}, "upstream": "app"},
]


@pytest.fixture(scope="module")
def nobody():
    """The port of an upstream that is not there, unless a test puts one there."""
    return free_port()


@pytest.fixture(scope="module")
def shared(postgres, nobody, tmp_path_factory):
    database = AuditDatabase(postgres)
    upstreams = {
        "app": {"retry": {"max_attempts": 1}, "breaker": {"failure_threshold": 1_000_000}},
        "nobody": {"url": f"http://127.0.0.1:{nobody}", "retry": {"max_attempts": 1}},
        "tries": {"retry": {"max_attempts": 3, "initial_delay": "1ms"}},
    }
    with Pair(
        tmp_path_factory.mktemp("audit"), upstreams, ROUTES, env={"DATABASE_URL": database.application_url}
    ) as pair:
        yield Audited(pair.sidecar, pair.upstream, database)


@pytest.fixture
def site(shared):
    shared.upstream.forget()
    shared.upstream.reply = created()
    return shared


def request(target: str, name: str, *fields: str) -> bytes:
    lines = [
        f"POST {target} HTTP/1.1",
        "Host: test",
        f"X-Correlation-ID: {name}",
        f"X-User-ID: {USER}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def wait_for(client, text: bytes) -> None:
    while text not in client.reader.buffer:
        assert client.reader.more()


# -- large and endless bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["best", "required"])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_response_that_is_too_long_to_keep_passes_and_its_change_is_told_apart(site, route, keyed):
    body = json.dumps({"id": REQUEST, "text": "x" * 3 * MIB}).encode()
    site.upstream.reply = created(body)
    before = site.rejected("body_not_captured")
    key = [f"Idempotency-Key: large-{route}"] if keyed else []
    name, response = site.call("POST", f"/{route}/x", *key)
    assert (response.status, response.body) == (201, body)
    assert name not in site.rows_before_now()
    assert site.rejected("body_not_captured") == before + 1


def test_a_mapping_that_reads_no_body_takes_any(site):
    site.upstream.reply = created(b"x" * 3 * MIB)
    name, response = site.call("POST", "/headers/x", body=b"y" * 3 * MIB)
    assert len(response.body) == 3 * MIB
    row = site.row(name)
    assert (row["new_value"], row["outcome"]) == ("done", "ok")


def test_a_required_request_that_is_too_long_to_keep_is_not_forwarded(site):
    name, response = site.call("POST", "/blind-required/x", body=b"1" * (MIB + 1))
    assert error_of(response)["code"] == "AUDIT_UNAVAILABLE"
    assert site.upstream.requests == []
    assert name not in site.rows_before_now()


def test_a_best_effort_request_that_is_too_long_to_keep_is_forwarded_and_told_apart(site):
    before = site.rejected("body_not_captured")
    name, response = site.call("POST", "/blind/x", body=b"1" * (MIB + 1))
    assert response.status == 201
    assert name not in site.rows_before_now()
    assert site.rejected("body_not_captured") == before + 1


@pytest.mark.parametrize("keyed", [False, True])
def test_the_end_of_a_required_response_waits_for_the_disk_but_its_beginning_may_not(site, keyed):
    """Over what is kept, it flows; the outcome stands in the spool before the last piece is let go."""
    more = threading.Event()
    length = 2 * MIB
    head = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % length
    site.upstream.reply = Reply((head, b"x" * MIB, more, b"y" * MIB))
    name = f"flows-{keyed}"
    with site.sidecar.client() as client:
        key = [f"Idempotency-Key: {name}"] if keyed else []
        client.send(request("/headers/x", name, *key, "Content-Length: 0"))
        response = client.head("POST")
        assert b"".join(client.reader.pieces(MIB // 2)) == b"x" * (MIB // 2)
        assert site.database.rows(name) == []
        more.set()
        assert len(b"".join(client.reader.pieces(length - MIB // 2))) == length - MIB // 2
    assert response.status == 201
    assert site.row(name)["outcome"] == "ok"


@pytest.mark.parametrize("route", ["blind", "headers"])
@pytest.mark.parametrize("keyed", [False, True])
def test_an_event_stream_flows_and_its_row_is_made_when_it_begins(site, route, keyed):
    rest = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    site.upstream.reply = Reply((head, b"data: 1\n\n", rest, b"data: 2\n\n", Do.CLOSE))
    name = f"stream-{route}-{keyed}"
    with site.sidecar.client() as client:
        key = [f"Idempotency-Key: {name}"] if keyed else []
        client.send(request(f"/{route}/x", name, *key, "Content-Length: 2"), b"{}")
        assert client.head("POST").status == 200
        wait_for(client, b"data: 1\n\n")
        assert site.row(name)["outcome"] == "ok"
        rest.set()
        wait_for(client, b"data: 2\n\n")


# -- upgrades ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["sockets", "sockets-required"])
def test_a_tunnel_makes_no_row_and_a_refused_one_is_an_answer_as_any(site, route):
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    site.upstream.reply = Reply((switch, b"hello", Do.CLOSE), early=True)
    with site.sidecar.client() as client:
        client.send(request(f"/{route}/x", f"tunnel-{route}", *upgrade))
        assert client.head("POST").status == 101
        assert b"".join(client.reader.pieces(5)) == b"hello"
    site.upstream.reply = created(b'{"code": "NO"}', status="403 Forbidden")
    refused, response = site.call("POST", f"/{route}/x", *upgrade)
    assert response.status == 403
    row = site.row(refused)
    assert (row["outcome"], row["new_value"]) == ("error", {"code": "NO"})
    assert f"tunnel-{route}" not in site.rows_before_now()


# -- more than one attempt --------------------------------------------------------------------------------


def test_a_request_that_is_tried_again_makes_one_row(site):
    tries = iter(["503 Service Unavailable", "502 Bad Gateway"])

    def reply(connection, asked):
        created(status=next(tries, "201 Created"))(connection, asked)

    site.upstream.reply = reply
    name, response = site.call("POST", "/dedupes/x")
    assert response.status == 201
    assert len(site.upstream.requests) == 3
    assert site.row(name)["outcome"] == "ok"


def test_a_dead_letter_that_is_sent_again_makes_the_row(site, nobody):
    name, response = site.call("POST", "/kept/x", body={"destination": "Rome"})
    record = response["x-dead-letter-id"].decode()
    assert response.status == 502
    assert name not in site.rows_before_now()
    with Upstream(created(), port=nobody):
        again = site.sidecar.ask("POST", f"/admin/dlq/HTTP_REQUEST/{record}/retry", json={})
    assert again.status_code == 200, again.text
    row = site.row(name)
    assert (row["outcome"], row["new_value"], row["changed_by_id"]) == ("ok", CREATED, USER)


# -- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "not_json"),
        (b'{"other": 1}', "pointer_not_found"),
        (b'{"id": "4711"}', "not_a_uuid"),
        (b'{"id": "%b", "text": "\\u0000"}' % REQUEST.encode(), "not_storable"),
        (b'{"id": "%b", "number": 1e200000}' % REQUEST.encode(), "refused_by_database"),
    ],
)
@pytest.mark.parametrize("route", ["best", "required"])
def test_a_change_whose_row_cannot_be_made_is_counted_and_logged(site, route, body, reason):
    site.upstream.reply = created(body)
    before = site.rejected(reason)
    name, response = site.call("POST", f"/{route}/x")
    assert (response.status, response.body) == (201, body)
    line = site.sidecar.wait_log(
        lambda line: line.get("event") == "audit_row_rejected" and line["correlation_id"] == name, reason
    )
    assert (line["reason"], line["level"]) == (reason, "error")
    eventually(lambda: site.rejected(reason) == before + 1, f"{reason} is counted", every=0.05)
    assert name not in site.rows_before_now()


@pytest.mark.parametrize(("fields", "reason"), [([], "header_missing"), (["X-User-ID: bob"], "not_a_uuid")])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_required_request_whose_own_part_does_not_fit_is_refused(site, fields, reason, keyed):
    key = [f"Idempotency-Key: refused-{reason}"] if keyed else []
    name, response = site.call("POST", "/required/x", *fields, *key, user="")
    assert error_of(response)["code"] == "AUDIT_UNAVAILABLE"
    assert "changed_by_id" in error_of(response)["message"]
    assert site.upstream.requests == []
    site.sidecar.access_line(reason="audit_unavailable", cause=reason, correlation_id=name, status=503)
    if keyed:  # the key is free again
        name, response = site.call("POST", "/required/x", *key)
        assert response.status in (201, 422)
    assert NIL not in {row["changed_by_id"] for row in site.database.rows(name)}


def test_other_routes_are_none_of_its_business(site):
    site.upstream.reply = Reply((OK,))
    name, _ = site.call("POST", "/elsewhere")
    assert name not in site.rows_before_now()
