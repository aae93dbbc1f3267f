from dataclasses import replace

import pytest

from sidecar.dlq.record import (
    Attempt,
    Edit,
    HttpRequest,
    Origin,
    check_event_type,
    clean_text,
    stored_headers,
)
from tests.unit.dlq.records import NOW, a_record

EDIT = Edit(at=NOW, by="ann", reason="typo", replaced_key="r-1")
REQUEST = HttpRequest(
    method="POST",
    target="/api/v1/requests?dry=1",
    headers=(("Content-Type", "application/json"), ("Idempotency-Key", "k-1")),
    body=b"{}",
)


@pytest.mark.parametrize("event_type", ["REQUEST_CREATED", "com.example.created", "a", "x" * 100])
def test_event_types(event_type):
    assert check_event_type(event_type) == event_type


@pytest.mark.parametrize("event_type", ["", "x" * 101, "a b", "a:b", "a/b", "ü", "a\n", "*", "{a}"])
def test_malformed_event_types(event_type):
    with pytest.raises(ValueError, match="an event type is"):
        check_event_type(event_type)


@pytest.mark.parametrize(
    ("data", "payload"),
    [(b'{"id":1}', {"id": 1}), (b"<a/>", "<a/>"), (b"\xff\x00", b"\xff\x00"), (b"null", None), (None, None)],
)
def test_a_payload_is_json_or_text_or_bytes(data, payload):
    assert a_record(data=data).payload == payload


def test_a_failed_retry_is_noted():
    attempt = Attempt(at=NOW + 60, error="503", status=503, by="ann", reason="again")
    record = a_record(status="retrying").failed_again(attempt)
    assert (record.error, record.last_failed_at, record.replay_count) == ("503", NOW + 60, 1)
    assert (record.attempts, record.status, record.first_failed_at) == ((attempt,), "pending", NOW - 1)


def test_an_edited_event_is_another_event():
    record = a_record().edited(b'{"id":2}', EDIT, key="new")
    assert (record.id, record.idempotency_key, record.event["id"]) == ("r-1", "new", "new")
    assert (record.payload, record.edits) == ({"id": 2}, (EDIT,))


def test_an_edited_payload_of_a_library_has_no_event():
    assert a_record(event={}).edited(b"1", EDIT, key="new").event == {}


def test_an_edited_request_has_a_new_key_and_no_claim():
    origin = Origin(kind="upstream", upstream="app", route="create", claim="0123")
    record = a_record(data=None, event={}, request=REQUEST, origin=origin, idempotency_key="k-1")
    edited = record.edited(b"[]", EDIT, key="new")
    assert edited.request == replace(
        REQUEST, body=b"[]", headers=(("Content-Type", "application/json"), ("Idempotency-Key", "new"))
    )
    assert (edited.idempotency_key, edited.origin.claim, edited.payload) == ("new", "", None)


def test_an_edited_request_without_a_key_gets_none():
    request = replace(REQUEST, headers=())
    edited = a_record(data=None, event={}, request=request, idempotency_key="").edited(b"[]", EDIT, key="new")
    assert edited.request == replace(request, body=b"[]")
    assert edited.idempotency_key == ""


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "PROXY-AUTHORIZATION", "Cookie", "Set-Cookie", "X-Api-Key", "X-ApiKey", "api_key"),
        *(
            "X-Auth-Token",
            "X-CSRF-Token",
            "X-Amz-Security-Token",
            "Client-Secret",
            "X-Password",
            "X-Session-Id",
        ),
        *("X-Forwarded-Authorization", "X-Access-Key", "X-JWT-Assertion", "X-Credential", "X-Auth"),
        *("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "TE", "Upgrade", "Expect"),
        *("traceparent", "X-Correlation-ID", "x-secret-sauce"),
    ],
)
def test_headers_that_are_not_stored(name):
    assert stored_headers([(name.encode(), b"value")]) == ()


@pytest.mark.parametrize(
    "name", ["Content-Type", "Idempotency-Key", "Host", "X-Author", "X-User-ID", "Stripe-Signature", "Accept"]
)
def test_headers_that_are_stored(name):
    assert stored_headers([(name.encode(), b"caf\xe9")]) == ((name, "café"),)


def test_configured_headers_are_not_stored():
    headers = [(b"X-User-ID", b"1"), (b"Accept", b"*/*"), (b"accept", b"text/html")]
    assert stored_headers(headers, frozenset({"x-user-id"})) == (("Accept", "*/*"), ("accept", "text/html"))


def test_text_is_bounded_and_can_be_stored():
    assert clean_text("ab\ud800", 3) == "ab\\ud800"
    assert clean_text("x" * 3000) == "x" * 2000
