"""Audited routes of the real process, on a real PostgreSQL: from a request to its row, or to none."""

from __future__ import annotations

import gzip
import json
import uuid

import pytest

from tests.support.audit_database import AuditDatabase
from tests.support.audited import CREATED, JSON, NIL, REQUEST, USER, Audited, audited, created
from tests.support.client import HTTP
from tests.support.pair import STEADY, Pair
from tests.support.raw import refusal
from tests.support.upstream import Do, Reply, answer, chunked_answer

pytestmark = pytest.mark.xdist_group("audit")

IN_REQUEST = {"request_id": "request:/id", "new_value": "request:"}
ROUTES = [
    audited("best"),
    audited("required", mode="required"),
    audited("errors", on_error="record", redact=["/card"]),
    audited("required-errors", on_error="record", mode="required"),
    audited("from-request", **IN_REQUEST),
    audited("required-request", mode="required", **IN_REQUEST),
    audited("told", change_type="LOOKED_AT", new_value="looked", request_id=REQUEST),
    audited(
        "sources",
        "/sources/{id}/by/{who}",
        request_id="path:id",
        changed_by_id="request:/by/0/id",
        changed_by_type="path:who",
        change_type="header:X-Change",
        previous_value="request:/before",
        new_value="response:/items/1",
    ),
    audited(
        "before",
        "/before/{id}",
        request_id="path:id",
        previous="get",
        redact=["/card/number"],
    ),
    audited(
        "before-required", "/before-required/{id}", request_id="path:id", previous="get", mode="required"
    ),
    {"name": "default", "match": {"prefix": "/"}, "upstream": "app"},
]


@pytest.fixture(scope="module")
def shared(postgres, tmp_path_factory):
    """A database, and a sidecar that may add rows to it and no more, before a scripted upstream."""
    database = AuditDatabase(postgres)
    settings = {"app": {**STEADY, "timeouts": {"first_byte": "300ms"}}}
    with Pair(
        tmp_path_factory.mktemp("audit"), settings, ROUTES, env={"DATABASE_URL": database.application_url}
    ) as pair:
        yield Audited(pair.sidecar, pair.upstream, database)


@pytest.fixture
def site(shared):
    """The shared pair, with an upstream that creates things."""
    shared.upstream.forget()
    shared.upstream.reply = created()
    return shared


# -- from a request to a row ------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["best", "required"])
def test_a_change_becomes_a_row(site, route):
    name, response = site.call("POST", f"/{route}/x", body={"destination": "Paris"})
    assert (response.status, json.loads(response.body)) == (201, CREATED)
    row = site.row(name)
    assert row["request_id"] == REQUEST
    assert row["change_type"] == "CREATED"
    assert row["previous_value"] is None
    assert row["new_value"] == CREATED
    assert (row["changed_by_id"], row["changed_by_type"]) == (USER, "USER")
    assert (row["correlation_id"], row["outcome"]) == (name, "ok")
    assert uuid.UUID(row["id"]).version == 7


def test_every_source_finds_its_value(site):
    site.upstream.reply = created(b'{"items": [1, {"price": 10.10}]}')
    body = {"by": [{"id": USER}], "before": {"price": 9}}
    name, _ = site.call("PUT", f"/sources/{REQUEST}/by/CAF%C3%89", "X-Change: PRICED", body=body, user="")
    row = site.row(name)
    assert (row["request_id"], row["changed_by_id"], row["changed_by_type"]) == (REQUEST, USER, "CAFÉ")
    assert (row["change_type"], row["previous_value"]) == ("PRICED", {"price": 9})
    assert row["new_value"] == {"price": 10.1}


@pytest.mark.parametrize(
    ("method", "change_type"),
    [
        ("POST", "CREATED"),
        ("PUT", "UPDATED"),
        ("PATCH", "UPDATED"),
        ("DELETE", "DELETED"),
        ("MERGE", "MERGE"),
    ],
)
def test_the_method_tells_the_kind_of_change(site, method, change_type):
    name, _ = site.call(method, "/best/x")
    assert site.row(name)["change_type"] == change_type


def test_a_safe_method_makes_a_row_only_where_the_route_says_what_happened(site):
    unheard, _ = site.call("GET", "/best/x")
    told, _ = site.call("GET", "/told/x")
    assert site.row(told)["new_value"] == "looked"
    assert unheard not in site.rows_before_now()


@pytest.mark.parametrize("route", ["from-request", "required-request"])
@pytest.mark.parametrize("framing", ["length", "chunked", "gzip", "expect"])
def test_the_request_is_read_however_it_comes(site, route, framing):
    body = json.dumps({"id": REQUEST, "text": "x" * 100_000}).encode()
    fields = [f"X-Correlation-ID: {framing}-{route}", f"X-User-ID: {USER}"]
    sent = body
    if framing == "gzip":
        sent = gzip.compress(body)
        fields.append("Content-Encoding: gzip")
    if framing == "expect":
        fields.append("Expect: 100-continue")
        site.upstream.reply = Reply((b"HTTP/1.1 100 Continue\r\n\r\n", Do.READ_BODY, answer()), early=True)
        if route.startswith("required"):
            site.upstream.reply = Reply()
    if framing == "chunked":
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
        fields.append("Transfer-Encoding: chunked")
    else:
        fields.append(f"Content-Length: {len(sent)}")
    with site.sidecar.client() as client:
        client.send("\r\n".join([f"POST /{route} HTTP/1.1", "Host: test", *fields, "", ""]).encode())
        if framing == "expect":
            assert client.any_head().status == 100
        client.send(sent)
        assert client.response("POST").status in (200, 201)
    row = site.row(f"{framing}-{route}")
    assert (row["request_id"], row["new_value"]) == (REQUEST, json.loads(body))
    assert site.upstream.requests[-1].body == (body if framing != "gzip" else sent)


@pytest.mark.parametrize("route", ["best", "required"])
@pytest.mark.parametrize("framing", ["chunked", "gzip", "pieces", "until close"])
def test_the_response_is_read_however_it_comes_and_passed_on_as_it_came(site, route, framing):
    state = {"id": REQUEST, "text": "x" * 200_000}
    body = json.dumps(state).encode()
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "chunked":
        site.upstream.reply = Reply((chunked_answer(body[:10], body[10:], trailers=("X-Sum: 1",)),))
    elif framing == "gzip":
        body = gzip.compress(body)
        site.upstream.reply = created(body, "Content-Encoding: gzip")
    elif framing == "pieces":
        site.upstream.reply = Reply(
            (head + b"Content-Length: %d\r\n\r\n" % len(body), body[:100_000], body[100_000:])
        )
    else:
        site.upstream.reply = Reply((head + b"\r\n" + body, Do.CLOSE))
    name, response = site.call("POST", f"/{route}/x")
    assert response.body == body
    assert site.row(name)["new_value"] == state


@pytest.mark.parametrize("route", ["best", "required"])
def test_one_connection_carries_audited_requests_one_after_another(site, route):
    with site.sidecar.client() as client:
        for number in range(3):
            response = client.request(
                "POST", f"/{route}/x", f"X-User-ID: {USER}", f"X-Correlation-ID: row-{route}-{number}"
            )
            assert response.status == 201
    assert [site.row(f"row-{route}-{number}")["outcome"] for number in range(3)] == ["ok"] * 3


def test_rows_stand_in_the_order_of_their_calls(site):
    names = [site.call("POST", f"/{route}/x")[0] for route in ("best", "best", "best")]
    site.row(names[-1])
    written = [row["correlation_id"] for row in site.database.rows()]
    assert [name for name in written if name in names] == names


# -- what was there before --------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["before", "before-required"])
def test_the_state_before_is_read_with_the_clients_own_credentials(site, route):
    before = {"card": {"number": "1234", "type": "V"}, "n": 1}
    replies = {b"GET": answer(json.dumps(before).encode(), JSON), b"PUT": answer(b'{"n": 2}', JSON)}
    site.upstream.reply = lambda connection, request: Reply((replies[request.method],))(connection, request)
    name, response = site.call(
        "PUT",
        f"/{route}/{REQUEST}?v=1",
        "Authorization: Bearer s3cret",
        "Accept-Encoding: gzip",
        f"Idempotency-Key: key-{route}",
        "If-Match: *",
        body={"n": 2},
    )
    assert (response.status, response.body) == (200, b'{"n": 2}')
    row = site.row(name)
    expected = {**before, "card": {"number": "[redacted]", "type": "V"}} if route == "before" else before
    assert (row["previous_value"], row["new_value"]) == (expected, {"n": 2})
    get, put = site.upstream.requests
    assert (get.method, get.target, get.body) == (
        b"GET",
        b"/%b/%b?v=1" % (route.encode(), REQUEST.encode()),
        b"",
    )
    assert (get["authorization"], get["host"]) == (b"Bearer s3cret", b"test")
    assert get["x-correlation-id"] == put["x-correlation-id"] == name.encode()
    assert get["x-forwarded-for"] == put["x-forwarded-for"]
    for field in ("accept-encoding", "idempotency-key", "if-match", "content-length", "content-type"):
        assert field not in get


@pytest.mark.parametrize("route", ["before", "before-required"])
def test_where_nothing_was_before_there_is_no_previous_value(site, route):
    replies = {b"GET": answer(b'{"code": 404}', JSON, status="404 Not Found"), b"PUT": answer(b"{}", JSON)}
    site.upstream.reply = lambda connection, request: Reply((replies[request.method],))(connection, request)
    name, _ = site.call("PUT", f"/{route}/{REQUEST}")
    assert site.row(name)["previous_value"] is None


def test_a_state_before_that_cannot_be_read_stops_a_required_change(site):
    def reply(connection, request):
        (Reply((Do.RESET,)) if request.method == b"GET" else created())(connection, request)

    site.upstream.reply = reply
    name, response = site.call("PUT", f"/before-required/{REQUEST}")
    assert response.status == 502
    assert {request.method for request in site.upstream.requests} == {b"GET"}
    passed, response = site.call("PUT", f"/before/{REQUEST}")
    assert response.status == 201
    assert site.row(passed)["previous_value"] is None
    assert name not in site.rows_before_now()


# -- what makes a row, and which --------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["best", "required"])
@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "500 Internal Server Error"])
def test_an_answer_other_than_2xx_makes_no_row(site, route, status):
    site.upstream.reply = created(status=status)
    name, response = site.call("POST", f"/{route}/x")
    assert response.status == int(status[:3])
    assert name not in site.rows_before_now()


@pytest.mark.parametrize("route", ["errors", "required-errors"])
def test_an_error_is_recorded_where_the_route_wants_it(site, route):
    site.upstream.reply = created(b'{"code": "SOLD_OUT"}', status="409 Conflict")
    name, response = site.call("POST", f"/{route}/x")
    assert response.status == 409
    row = site.row(name)
    assert (row["outcome"], row["request_id"], row["new_value"]) == ("error", NIL, {"code": "SOLD_OUT"})


@pytest.mark.parametrize("route", ["best", "required"])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("how", ["silence", "reset", "broken off", "malformed"])
def test_an_outcome_that_nobody_knows_is_recorded_as_unknown(site, route, keyed, how):
    steps = {
        "silence": (),
        "reset": (Do.RESET,),
        "broken off": (b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{", Do.CLOSE),
        "malformed": (b"HTTP/1.1 201 Created\r\nContent-Length: x\r\n\r\n",),
    }
    site.upstream.reply = Reply(steps[how])
    name = f"lost-{route}-{keyed}-{how}".replace(" ", "-")
    with site.sidecar.client() as client:
        fields = [f"X-Correlation-ID: {name}", f"X-User-ID: {USER}"]
        if keyed:
            fields.append(f"Idempotency-Key: {name}")
        lines = [f"POST /{route}/x HTTP/1.1", "Host: test", *fields, "Content-Length: 2", "", "{}"]
        client.send("\r\n".join(lines).encode())
        if how != "broken off" or keyed or route == "required":
            assert client.response("POST").status in (502, 504)
    row = site.row(name)
    assert (row["outcome"], row["change_type"]) == ("unknown", "CREATED")
    assert (row["request_id"], row["changed_by_id"], row["new_value"]) == (NIL, USER, None)


@pytest.mark.parametrize("route", ["best", "required"])
def test_a_client_that_goes_away_leaves_an_unknown_outcome(site, route):
    site.upstream.reply = Reply(())
    name = f"gone-{route}"
    with site.sidecar.client() as client:
        lines = [
            f"POST /{route}/gone HTTP/1.1",
            "Host: test",
            f"X-Correlation-ID: {name}",
            f"X-User-ID: {USER}",
        ]
        client.send("\r\n".join([*lines, "", ""]).encode())
        site.upstream.wait_request(f"/{route}/gone")
    assert site.row(name)["outcome"] == "unknown"


@pytest.mark.parametrize("route", ["best", "required"])
def test_a_keyed_change_is_recorded_once_and_its_replays_are_not(site, route):
    key = f"Idempotency-Key: once-{route}"
    first, response = site.call("POST", f"/{route}/x", key)
    again, replayed = site.call("POST", f"/{route}/x", key)
    assert (response.status, replayed.status) == (201, 201)
    assert replayed["x-idempotent-replayed"] == b"true"
    assert site.row(first)["new_value"] == CREATED
    assert again not in site.rows_before_now()


@pytest.mark.parametrize("route", ["best", "required"])
def test_a_keyed_change_is_recorded_although_its_client_has_gone(site, route):
    name = f"left-{route}"
    with site.sidecar.client() as client:
        fields = [f"X-Correlation-ID: {name}", f"X-User-ID: {USER}", f"Idempotency-Key: {name}"]
        client.send("\r\n".join([f"POST /{route}/left HTTP/1.1", "Host: test", *fields, "", ""]).encode())
        client.reset()
    assert site.row(name)["outcome"] == "ok"


@pytest.mark.parametrize("route", ["best", "required"])
def test_what_never_reached_the_upstream_makes_no_row(site, route):
    mode = {"mode": "forced_open", "for": "1m", "reason": "test"}
    breaker = f"{site.sidecar.admin}/admin/upstreams/app/breaker"
    put(breaker, mode)
    name, response = site.call("POST", f"/{route}/x")
    put(breaker, {"mode": "auto", "reason": "test"})
    assert refusal(response) == (503, "CIRCUIT_OPEN")
    assert name not in site.rows_before_now()


def put(url: str, content: dict[str, str]) -> None:
    assert HTTP.put(url, json=content).status_code == 200
