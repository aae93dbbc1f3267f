import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.dlq.codec import (
    attempt_from,
    attempt_members,
    decode,
    encode,
    parse_timestamp,
    require_readable,
    timestamp,
    to_json,
)
from sidecar.dlq.errors import DeadLetterUnreadableError
from sidecar.dlq.record import Attempt, Edit, HttpRequest, Origin
from tests.unit.dlq.records import NOW, a_record

ORIGINS = [
    Origin(kind="subscription", upstream="app", path="/hooks"),
    Origin(kind="stream"),
    Origin(kind="upstream", upstream="app", route="create", claim="0123"),
    Origin(kind="library"),
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.integers(0, 4_000_000_000_000_000).map(lambda number: number / 1e6)
attempts = st.builds(
    Attempt,
    at=moments,
    error=texts,
    status=st.none() | st.integers(100, 599),
    duration=st.none() | st.integers(0, 10_000).map(lambda number: number / 1000),
    spent=st.booleans(),
)
requests = st.builds(
    HttpRequest,
    method=texts,
    target=texts,
    headers=st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    body=st.binary(max_size=50),
)


def reread(record):
    return decode(encode(record), record_id=record.id, event_type=record.event_type)


@settings(max_examples=200)
@given(
    record_id=texts,
    data=st.none() | st.binary(max_size=50) | texts.map(str.encode),
    origin=st.sampled_from(ORIGINS),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    request=st.none() | requests,
    event=st.dictionaries(texts, texts, max_size=3),
    stored_at=moments,
)
def test_records_come_back_as_they_were(record_id, stored_at, **changes):
    edit = Edit(at=stored_at, by="ann", reason="typo", replaced_key="old")
    record = a_record(record_id, stored_at=stored_at, first_failed_at=stored_at, edits=(edit,), **changes)
    assert reread(record) == record


@pytest.mark.parametrize(
    "data",
    [
        b'{"amount": 1.10, "id": 12345678901234567890123}',
        b'{"a":1,"a":2}',
        b' {"b":1,"a":2}\n',
        b"1.0e2",
        b"\xef\xbb\xbf{}",
        b"[" * 3000 + b"]" * 3000,
        b"",
        b"null",
        b'"text"',
    ],
)
def test_the_bytes_of_a_payload_are_kept_exactly(data):
    assert reread(a_record(data=data)).data == data


def test_a_payload_stands_there_once_where_that_is_enough():
    members = to_json(a_record(data=b'{"id":1,"name":"x"}'))
    assert members["payload"] == {"id": 1, "name": "x"}
    assert "data" not in members


def test_people_can_read_a_payload_in_any_case():
    assert to_json(a_record(data=b'{"id": 1}'))["payload"] == {"id": 1}
    assert to_json(a_record(data=b"<a/>"))["data"] == "<a/>"
    assert to_json(a_record(data=b"\xff"))["data_base64"] == "/w=="


def test_an_attempt_that_an_operator_asked_for_says_so():
    attempt = Attempt(at=NOW, error="503", status=503, duration=0.0125, by="ann", reason="again")
    members = attempt_members(attempt)
    assert members == {
        "at": "2023-11-14T22:13:20.000000Z",
        "error": "503",
        "status": 503,
        "duration_ms": 12.5,
        "by": "ann",
        "reason": "again",
    }
    assert attempt_from(members) == attempt


def test_times():
    assert parse_timestamp(timestamp(NOW + 0.123456)) == NOW + 0.123456
    assert parse_timestamp("2023-11-14T23:13:20+01:00") == NOW
    assert parse_timestamp("2023-11-14T22:13:20") == NOW
    with pytest.raises(ValueError, match="yesterday"):
        parse_timestamp("yesterday")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not JSON",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"v":1}',
        b"\xff\xfe",
        orjson.dumps(to_json(a_record()) | {"v": 2}),
        orjson.dumps(to_json(a_record()) | {"stored_at": "soon"}),
        orjson.dumps(to_json(a_record()) | {"origin": {"kind": "elsewhere"}}),
        orjson.dumps(to_json(a_record()) | {"origin": {"kind": "stream", "planet": "x"}}),
        orjson.dumps(to_json(a_record()) | {"attempts": [1]}),
        orjson.dumps(to_json(a_record()) | {"data_base64": "not Base64!"}),
        orjson.dumps(to_json(a_record()) | {"data": 1}),
        b"[" * 3000,
    ],
)
def test_what_cannot_be_read_can_still_be_seen(value):
    record = decode(value, record_id="r-1", event_type="T")
    assert (record.id, record.event_type, record.status, record.data) == ("r-1", "T", "unreadable", value)
    with pytest.raises(DeadLetterUnreadableError, match="r-1"):
        require_readable(record)


def test_what_can_be_read_is_taken():
    record = a_record()
    assert require_readable(record) is record


def test_a_newer_format_is_named():
    value = orjson.dumps(to_json(a_record()) | {"v": 2})
    assert "format 2" in decode(value, record_id="r", event_type="T").error


def test_members_that_others_added_do_not_matter():
    value = orjson.dumps(to_json(a_record()) | {"note": "mine"})
    assert decode(value, record_id="r-1", event_type="T") == a_record()
