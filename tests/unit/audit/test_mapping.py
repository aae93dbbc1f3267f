"""Every way of a value into its column, and every reason why one does not get there."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.audit.mapping import RowMapping, blank_row, mistakes
from sidecar.audit.record import ERROR, NIL_UUID, OK, UNKNOWN
from sidecar.audit.sources import Message, Rejected
from tests.unit.audit.support import REQUEST_ID, USER_ID, audit_settings

HEADERS = {b"x-user-id": USER_ID.upper().encode()}
RESPONSE = json.dumps({"id": REQUEST_ID, "total": 10}).encode()


def row_of(config, *, request=None, response=RESPONSE, method="POST", outcome=OK, previous=None, coding=None):
    mapping = RowMapping(config)
    row = blank_row(row_id="id", method=method, correlation_id="corr", created_at=1)
    mapping.begin(request or Message(header=HEADERS.get), row, previous)
    mapping.complete(row, Message(response, coding), outcome)
    return row


def rejection_of(config, **options) -> Rejected:
    with pytest.raises(Rejected) as caught:
        row_of(config, **options)
    return caught.value


def test_the_example_of_the_documentation():
    row = row_of(audit_settings())
    assert (row.id, row.correlation_id, row.created_at) == ("id", "corr", 1)
    assert row.request_id == REQUEST_ID
    assert row.changed_by_id == USER_ID
    assert (row.change_type, row.changed_by_type, row.outcome) == ("CREATED", "USER", "ok")
    assert row.new_value == f'{{"id":"{REQUEST_ID}","total":10}}'
    assert row.previous_value is None


def test_values_from_everywhere():
    config = audit_settings(
        request_id="path:id",
        changed_by_id="request:/actor/id",
        changed_by_type="request:/actor/kind",
        change_type="response:/event",
        new_value="request:/state",
        previous_value="response:/before",
    )
    request = Message(
        json.dumps({"actor": {"id": USER_ID, "kind": "ADMIN"}, "state": [1, 2]}).encode(),
        path={"id": REQUEST_ID.replace("-", "%2D").encode()},
    )
    row = row_of(config, request=request, response=b'{"event": "MOVED", "before": null}')
    assert (row.request_id, row.changed_by_id) == (REQUEST_ID, USER_ID)
    assert (row.changed_by_type, row.change_type) == ("ADMIN", "MOVED")
    assert (row.new_value, row.previous_value) == ("[1,2]", "null")


@pytest.mark.parametrize(
    ("method", "change_type"),
    [
        ("POST", "CREATED"),
        ("PUT", "UPDATED"),
        ("PATCH", "UPDATED"),
        ("DELETE", "DELETED"),
        ("X" * 60, "X" * 50),
    ],
)
def test_the_method_says_what_happened_where_the_route_does_not(method, change_type):
    assert row_of(audit_settings(change_type=None), method=method).change_type == change_type


def test_safe_methods_make_no_row_unless_the_route_names_the_change():
    assert RowMapping(audit_settings(change_type=None)).unaudited_methods == {
        b"GET",
        b"HEAD",
        b"OPTIONS",
        b"TRACE",
    }
    assert RowMapping(audit_settings(change_type="READ")).unaudited_methods == frozenset()


def test_what_must_be_captured():
    mapping = RowMapping(audit_settings())
    assert (mapping.reads_request, mapping.reads_response) == (False, True)
    mapping = RowMapping(
        audit_settings(request_id="request:/id", new_value="request:", changed_by_id=USER_ID)
    )
    assert (mapping.reads_request, mapping.reads_response) == (True, False)


def test_a_constant_state_is_a_json_string():
    assert row_of(audit_settings(new_value="seen")).new_value == '"seen"'


def test_an_empty_body_is_null():
    config = audit_settings(request_id=REQUEST_ID)
    assert row_of(config, response=b"").new_value == "null"
    assert rejection_of(audit_settings(), response=b"").reason == "pointer_not_found"


def test_a_compressed_body_is_read():
    assert row_of(audit_settings(), response=gzip.compress(RESPONSE), coding=b"gzip").request_id == REQUEST_ID


def test_redacted_values_are_in_no_state_but_can_be_ids():
    config = audit_settings(
        request_id="request:/card/id",
        previous_value="response:/old",
        new_value="request:",
        redact=("/card/id", "/pin"),
    )
    request = Message(json.dumps({"card": {"id": REQUEST_ID}, "a": 1}).encode(), header=HEADERS.get)
    row = row_of(config, request=request, response=b'{"old": {"pin": 1234, "b": 2}}')
    assert row.request_id == REQUEST_ID
    assert row.new_value == '{"card":{"id":"[redacted]"},"a":1}'
    assert row.previous_value == '{"pin":"[redacted]","b":2}'


def test_the_state_before_is_what_the_get_answered():
    config = audit_settings(previous="get", redact=("/pin",))
    assert (
        row_of(config, previous=Message(b'{"pin": 1, "a": 1.0}')).previous_value
        == '{"pin":"[redacted]","a":1.0}'
    )
    assert row_of(config, previous=None).previous_value is None
    rejected = rejection_of(config, previous=Message(b"<html>"))
    assert (rejected.reason, rejected.field) == ("not_json", "previous_value")


@pytest.mark.parametrize(
    ("changes", "response", "reason", "field"),
    [
        ({"changed_by_id": "header:X-Other"}, RESPONSE, "header_missing", "changed_by_id"),
        ({"changed_by_type": "header:X-Bytes"}, RESPONSE, "not_text", "changed_by_type"),
        ({}, b"no json", "not_json", "request_id"),
        ({}, None, "body_not_captured", "request_id"),
        ({"request_id": "response:/none/id"}, RESPONSE, "pointer_not_found", "request_id"),
        ({"request_id": "response:/total"}, RESPONSE, "not_a_uuid", "request_id"),
        ({"request_id": "response:/id"}, b'{"id": "42"}', "not_a_uuid", "request_id"),
        ({"change_type": "response:/total"}, RESPONSE, "not_text", "change_type"),
        ({"request_id": REQUEST_ID, "change_type": "response:/id"}, b'{"id": ""}', "not_text", "change_type"),
        ({"changed_by_type": "response:/id"}, RESPONSE, "too_long", "changed_by_type"),
        (
            {"request_id": USER_ID, "changed_by_type": "response:/id"},
            b'{"id": "a\\u0000"}',
            "not_storable",
            "changed_by_type",
        ),
        (
            {"request_id": USER_ID, "changed_by_type": "response:/id"},
            b'{"id": "\\ud800"}',
            "not_storable",
            "changed_by_type",
        ),
        ({"request_id": REQUEST_ID}, b'"\\u0000"', "not_storable", "new_value"),
    ],
)
def test_what_does_not_fit_is_rejected_with_a_reason(changes, response, reason, field):
    request = Message(header={**HEADERS, b"x-bytes": b"\xff"}.get)
    rejected = rejection_of(audit_settings(**changes), request=request, response=response)
    assert (rejected.reason, rejected.field) == (reason, field)


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (RESPONSE, b"br", "encoding_unknown"),
        (gzip.compress(bytes(20_000_000)), b"gzip", "body_not_captured"),
    ],
)
def test_a_body_that_cannot_be_decoded(body, coding, reason):
    assert rejection_of(audit_settings(), response=body, coding=coding).reason == reason


def test_a_rejection_does_not_say_the_value():
    rejected = rejection_of(audit_settings(request_id="response:/secret"), response=b'{"secret": "s3cret"}')
    assert str(rejected) == f"expected a UUID such as {NIL_UUID}, got a text of 6 characters"


def test_without_a_response_stand_ins_take_the_place_of_what_it_would_have_told():
    row = row_of(
        audit_settings(change_type="response:/a", changed_by_type="response:/b"),
        outcome=UNKNOWN,
        response=None,
    )
    assert row.outcome == "unknown"
    assert (row.request_id, row.new_value, row.changed_by_id) == (NIL_UUID, "null", USER_ID)
    assert (row.change_type, row.changed_by_type) == ("CREATED", "UNKNOWN")


def test_an_error_answer_gives_what_it_has():
    row = row_of(audit_settings(), outcome=ERROR, response=b'{"error": {"code": "TAKEN"}}')
    assert (row.outcome, row.request_id) == ("error", NIL_UUID)
    assert row.new_value == '{"error":{"code":"TAKEN"}}'
    assert row_of(audit_settings(), outcome=ERROR, response=b"oops").new_value == "null"


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"request_id": "42"}, "request_id", "expected a UUID"),
        ({"request_id": "path:id"}, "request_id", "the route's path has no {id} (it has {request})"),
        ({"request_id": "response:id"}, "request_id", "no JSON pointer"),
        ({"changed_by_id": "somebody"}, "changed_by_id", "expected a UUID"),
        ({"changed_by_type": "A" * 21}, "changed_by_type", "at most 20 characters"),
        ({"change_type": "A" * 51}, "change_type", "at most 50 characters"),
        ({"previous_value": "request:x"}, "previous_value", "no JSON pointer"),
        ({"redact": ("/ok", "")}, ("redact", 1), "would redact the whole state"),
    ],
)
def test_mistakes_are_found_when_the_configuration_is_loaded(changes, key, message):
    [(found, text)] = mistakes(audit_settings(**changes), ["request"])
    assert found == (key if isinstance(key, tuple) else (key,))
    assert message in text


def test_all_mistakes_are_told_at_once():
    found = list(mistakes(audit_settings(request_id="x", changed_by_id="path:y", redact=("",)), []))
    assert [key for key, _ in found] == [("redact", 0), ("request_id",), ("changed_by_id",)]
    assert "(it has none)" in found[2][1]


def test_a_good_section_has_no_mistakes():
    assert list(mistakes(audit_settings(request_id="path:id", redact=("/a", "/b/0")), ["id"])) == []


_bodies = st.binary(max_size=40) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.dictionaries(
        st.sampled_from(["id", "total", "a"]), st.none() | st.text() | st.integers() | st.just(USER_ID)
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    body=_bodies,
    coding=st.sampled_from([None, b"gzip", b"deflate", b"br"]),
    header=st.none() | st.binary(max_size=40),
)
def test_whatever_comes_makes_a_row_or_a_rejection(body, coding, header):
    config = audit_settings(change_type="response:/a", request_id="response:/id", redact=("/a", "/id/b"))
    mapping = RowMapping(config)
    row = blank_row(row_id="id", method="POST", correlation_id=None, created_at=1)
    try:
        mapping.begin(Message(header={b"x-user-id": header}.get), row, Message(body, coding))
        mapping.complete(row, Message(body, coding), OK)
    except Rejected as rejected:
        told = rejected.field != ""
    else:
        told = row.encode() != b""
    assert told
