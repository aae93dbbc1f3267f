"""What is refused before it is a request: the answer is still the client's own, and so is the log line."""

from __future__ import annotations

import json

import pytest

from tests.support.pair import Pair
from tests.support.raw import error_of, refusal

pytestmark = pytest.mark.xdist_group("refusals")

MALFORMED = b"POST /orders?a=b HTTP/1.1\r\nHost: test\r\n%bContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
CONNECT = b"CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n%b\r\n"
TOO_MANY = b"GET /orders HTTP/1.1\r\nHost: test\r\n%b" + b"A: b\r\n" * 100 + b"\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with Pair(tmp_path_factory.mktemp("refusals")) as pair:
        yield pair


def refuse(pair, sent, *, head=False):
    with pair.client() as client:
        client.send(sent)
        response = client.response("HEAD") if head else client.response()
        assert client.end() == "closed"
    return response


@pytest.mark.parametrize(
    ("request_bytes", "status", "method", "path"),
    [
        (MALFORMED, 400, "POST", "/orders"),
        (CONNECT, 501, "CONNECT", "test:443"),
        (TOO_MANY, 431, "GET", "/orders"),
    ],
)
def test_its_ids_are_taken(pair, request_bytes, status, method, path):
    own = f"own-{status}"
    response = refuse(pair, request_bytes % b"X-Correlation-ID: %b\r\nX-Request-ID: r-1\r\n" % own.encode())
    assert response.status == status
    assert response["x-correlation-id"] == own.encode()
    assert response["x-request-id"] == b"r-1"
    assert error_of(response)["correlation_id"] == own
    line = pair.sidecar.access_line(correlation_id=own)
    assert (line["method"], line["path"], line["status"]) == (method, path, status)


@pytest.mark.parametrize(
    "ids", [b"X-Correlation-ID: a b\r\n", b"X-Correlation-ID: a\r\nX-Correlation-ID: b\r\n"]
)
def test_ids_that_are_none_are_replaced(pair, ids):
    response = refuse(pair, MALFORMED % ids)
    assert len(response["x-correlation-id"]) == 36


@pytest.mark.parametrize("request_bytes", [MALFORMED, CONNECT, TOO_MANY])
def test_problem_details_where_it_asks_for_them(pair, request_bytes):
    response = refuse(pair, request_bytes % b"Accept: application/problem+json\r\n")
    assert response["content-type"] == b"application/problem+json"
    problem = json.loads(response.body)
    assert problem["status"] == response.status
    assert problem["code"].lower().encode() == response["x-sidecar-reason"]


def test_a_refused_head_request_gets_no_body(pair):
    response = refuse(pair, b"HEAD / HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n", head=True)
    assert response.status == 400
    assert int(response["content-length"]) > 0


@pytest.mark.parametrize("key", [b"a\x01b", b'"a\x7f"', b"\x00"])
def test_a_key_with_control_characters(pair, key):
    response = refuse(pair, b"POST / HTTP/1.1\r\nHost: test\r\nIdempotency-Key: %b\r\n\r\n" % key)
    assert refusal(response) == (400, "IDEMPOTENCY_KEY_INVALID")
    assert response["x-sidecar-reason"] == b"idempotency_key_invalid"


def test_a_key_that_connection_names_is_still_heeded(pair):
    def send():
        return pair.request(
            "POST", "/named", "Idempotency-Key: named-1", "Connection: Idempotency-Key", body=b"x"
        )

    assert "x-idempotent-replayed" not in send()
    assert send()["x-idempotent-replayed"] == b"true"
