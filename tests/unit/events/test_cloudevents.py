import base64
import json

import pytest
from cloudevents.core.bindings import http as sdk
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.events.cloudevents import (
    Event,
    EventError,
    Publication,
    delivery_headers,
    from_fields,
    idempotency_key,
    read_event,
    to_fields,
)
from tests.unit.events.events import NOW, TRACEPARENT, TYPE, an_event

PUBLICATION = Publication(
    event_type=TYPE, service="requests", now=NOW, correlation_id="c-1", traceparent=TRACEPARENT
)
STRUCTURED = [("Content-Type", "application/cloudevents+json; charset=utf-8")]
BINARY = [("ce-id", "e-1"), ("ce-source", "/shop"), ("ce-type", "shop.order"), ("ce-specversion", "1.0")]


def structured(**members):
    content = {"id": "e-1", "source": "/shop", "type": "shop.order", "specversion": "1.0", **members}
    return read_event(STRUCTURED, json.dumps(content).encode(), PUBLICATION)


def binary(*headers, data=b"", without=""):
    given = [header for header in BINARY if header[0] != without]
    return read_event([*given, *headers], data, PUBLICATION)


def test_plain_json_gets_what_an_event_must_have():
    event = read_event([("content-type", "application/json")], b'{"n":1.10}', PUBLICATION)
    assert event.data == b'{"n":1.10}'
    attributes = dict(event.attributes)
    assert len(attributes.pop("id")) == 36
    assert attributes == {
        "specversion": "1.0",
        "source": "/requests",
        "type": TYPE,
        "time": "2023-11-14T22:13:20.000000Z",
        "datacontenttype": "application/json",
        "correlationid": "c-1",
        "traceparent": TRACEPARENT,
    }
    assert (event.correlation_id, event.trace_id) == ("c-1", TRACEPARENT[3:35])


def test_plain_json_without_a_content_type_and_with_a_vendors():
    assert read_event([], b"[1]", PUBLICATION).attributes["datacontenttype"] == "application/json"
    event = read_event([("Content-Type", "application/vnd.shop+json")], b"[1]", PUBLICATION)
    assert event.attributes["datacontenttype"] == "application/vnd.shop+json"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("content-type", "text/plain")], b"x"),
        ([("content-type", "application/json")], b""),
        ([("content-type", "application/json")], b"{"),
        ([("content-type", "application/json")], b"\xff"),
        ([("content-type", "application/json\x01")], b"{}"),
        ([("content-type", "application/json; \x01")], b"{}"),
    ],
)
def test_plain_bodies_that_are_no_event(headers, body):
    with pytest.raises(EventError):
        read_event(headers, body, PUBLICATION)


def test_binary_mode():
    event = binary(
        ("ce-subject", "caf%C3%A9"),
        ("ce-comment", r'"a \"b\" %25"'),
        ("Content-Type", "text/csv"),
        data=b"\xff,",
    )
    assert event.id == "e-1"
    assert event.attributes["subject"] == "café"
    assert event.attributes["comment"] == 'a "b" %'
    assert event.attributes["datacontenttype"] == "text/csv"
    assert event.attributes["correlationid"] == "c-1"
    assert event.data == b"\xff,"


def test_attributes_that_the_event_brings_are_kept():
    event = binary(("ce-correlationid", "theirs"), ("ce-traceparent", TRACEPARENT.replace("01", "00")))
    assert event.correlation_id == "theirs"
    assert event.traceparent == TRACEPARENT.replace("01", "00")


@pytest.mark.parametrize(
    "headers",
    [
        [("ce-id", "again")],
        [("ce-datacontenttype", "text/plain")],
        [("ce-subject", "%FF")],
        [("ce-Big", "x"), ("ce-big", "y")],
        [("ce-with_underscore", "x")],
        [("ce-data", "x")],
        [("ce-subject", "a%00b")],
        [("ce-subject", "")],
        [("ce-time", "yesterday")],
        [("ce-time", "2024-02-30T00:00:00Z")],
        [("ce-x", "x" * 20_000)],
        [(f"ce-x{number}", "x") for number in range(70)],
        [("content-type", "nonsense")],
    ],
)
def test_binary_mode_that_is_malformed(headers):
    with pytest.raises(EventError):
        binary(*headers)


@pytest.mark.parametrize("name", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
def test_what_an_event_must_have(name):
    with pytest.raises(EventError, match=name[3:]):
        binary(without=name)


def test_another_version_of_the_specification():
    with pytest.raises(EventError, match="specversion"):
        binary(("ce-specversion", "0.3"), without="ce-specversion")


def test_structured_mode_keeps_the_bytes_of_the_data():
    body = (
        b'{"specversion":"1.0","id":"e","source":"s","type":"t","data": {"n": 1.10},"n":7,"b":true,"x":null}'
    )
    event = read_event(STRUCTURED, body, PUBLICATION)
    assert event.data == b'{"n": 1.10}'
    attributes = event.attributes
    assert (attributes["n"], attributes["b"], attributes["datacontenttype"]) == (
        "7",
        "true",
        "application/json",
    )
    assert "x" not in attributes


def test_structured_mode_with_other_data():
    assert structured().data == b""
    assert structured(data="a,b", datacontenttype="text/csv").data == b"a,b"
    assert structured(data_base64=base64.b64encode(b"\x00\xff").decode()).data == b"\x00\xff"
    assert structured(data={"a": 1}, data_base64=None).data == b'{"a": 1}'
    assert structured(data={"a": 1}, datacontenttype="application/x+json").data == b'{"a": 1}'
    assert structured(flag=False).attributes["flag"] == "false"


@pytest.mark.parametrize(
    "members",
    [
        {"data": {}, "data_base64": "AAAA"},
        {"data_base64": "no base64!"},
        {"data_base64": 7},
        {"data": {}, "datacontenttype": "text/plain"},
        {"extension": [1]},
        {"extension": 1.5},
    ],
)
def test_structured_mode_that_is_malformed(members):
    with pytest.raises(EventError):
        structured(**members)


def test_structured_mode_that_is_no_object_or_a_batch():
    with pytest.raises(EventError, match="not a JSON object"):
        read_event(STRUCTURED, b"[]", PUBLICATION)
    with pytest.raises(EventError, match="one by one"):
        read_event([("Content-Type", "application/cloudevents-batch+json")], b"[]", PUBLICATION)


def test_ids_that_no_header_may_carry_are_not_taken_for_one():
    event = Event({"id": "e", "source": "/s", "correlationid": "a b", "traceparent": "00-nonsense"}, b"")
    assert (event.correlation_id, event.traceparent, event.trace_id) == ("", "", "")
    assert Event({"id": "e"}, b"").correlation_id == ""


def test_delivery_in_binary_mode():
    event = binary(("ce-subject", "caf%C3%A9"), ("content-type", "text/csv"), data=b"a,b")
    headers = dict(delivery_headers(event))
    assert headers[b"ce-id"] == b"e-1"
    assert headers[b"ce-subject"] == b"caf%C3%A9"
    assert headers[b"content-type"] == b"text/csv"
    assert headers[b"idempotency-key"] == b"e-1"
    assert b"ce-datacontenttype" not in headers


def test_idempotency_keys():
    assert idempotency_key("e-1") == b"e-1"
    assert idempotency_key('a "b" \\ c') == b'"a \\"b\\" \\\\ c"'
    assert idempotency_key("é").startswith(b"sha256-")
    assert idempotency_key("x" * 300).startswith(b"sha256-")


def test_fields_of_a_stream_and_back():
    event = an_event()
    fields = {
        name.encode(): value.encode() if isinstance(value, str) else value
        for name, value in to_fields(event).items()
    }
    assert from_fields(fields, event_type=TYPE, entry_id="1-0") == event


def test_what_other_programs_write_into_a_stream():
    event = from_fields({b"order": b"7", b"Name": b"x"}, event_type=TYPE, entry_id="5-1")
    assert json.loads(event.data) == {"order": "7", "Name": "x"}
    assert dict(event.attributes) == {
        "order": "7",
        "id": "5-1",
        "source": f"/streams/{TYPE}",
        "type": TYPE,
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    assert from_fields({b"data": b"\xff"}, event_type=TYPE, entry_id="5-1").data == b"\xff"


TEXT = st.text(min_size=1, max_size=40).filter(
    lambda text: (
        not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in text)
        and not any(0xFDD0 <= ord(c) <= 0xFDEF or ord(c) in (0xFFFE, 0xFFFF) for c in text)
    )
)


@settings(max_examples=150)
@given(TEXT, TEXT, st.binary(max_size=50))
def test_what_is_delivered_can_be_published_again(event_id, subject, data):
    event = Event(
        {"specversion": "1.0", "id": event_id, "source": "/s", "type": "t", "subject": subject}, data
    )
    headers = [(name.decode(), value.decode()) for name, value in delivery_headers(event)]
    again = read_event(headers, data, Publication(event_type="t", service="s", now=NOW))
    assert again == event


@settings(max_examples=100)
@given(TEXT, st.binary(max_size=20))
def test_the_reference_implementation_reads_what_is_delivered(subject, data):
    event = Event({"specversion": "1.0", "id": "e-1", "source": "/s", "type": "t", "subject": subject}, data)
    headers = {name.decode(): value.decode() for name, value in delivery_headers(event)}
    read = sdk.from_http_event(sdk.HTTPMessage(headers, data))
    assert (read.get_id(), read.get_type(), read.get_subject()) == ("e-1", "t", subject)


@settings(max_examples=50)
@given(TEXT, st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=5), max_size=3))
def test_what_the_reference_implementation_sends_is_read(subject, data):
    attributes = {"id": "e-1", "source": "/s", "type": "t", "subject": subject}
    theirs = CloudEvent(attributes=attributes | {"datacontenttype": "application/json"}, data=data)
    for message in (sdk.to_binary_event(theirs), sdk.to_structured_event(theirs)):
        event = read_event(message.headers.items(), message.body, PUBLICATION)
        assert (event.id, event.attributes["subject"]) == ("e-1", subject)
        assert json.loads(event.data) == data
