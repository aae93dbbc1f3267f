"""JSON lines: complete, one object a line, whatever the values hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.log.json import JsonLines
from sidecar.log.record import MAX_TEXT, Event

WALL = 1_700_000_000.123456

ACCESS_FIELDS = {
    "time", "level", "event", "service", "correlation_id", "trace_id", "method", "path", "route", "status",
    "bytes_in", "bytes_out", "duration_ms", "attempts", "upstream_host", "idempotency", "breaker", "reason",
    "cause",
}  # fmt: skip


def access_record(**changes):
    values = {
        "time": WALL,
        "method": b"POST",
        "target": b"/api/v1/requests?token=secret",
        "route": "create-request",
        "status": 201,
        "bytes_in": 17,
        "bytes_out": 52,
        "duration_ms": 3.25049,
        "attempts": 1,
        "upstream_host": "127.0.0.1:3000",
        "idempotency": "executed",
        "breaker": "closed",
        "reason": "",
        "correlation_id": b"0192f0c4-7f7c-7b7e-8b7e-0123456789ab",
        "trace_id": b"0af7651916cd43dd8448eb211c80319c",
    } | changes
    return tuple(values.values())


def event_line(**fields):
    return JsonLines("requests").event(Event(WALL, "info", "something", fields))


def test_an_access_line_has_every_promised_field():
    line = json.loads(JsonLines("requests").access(*access_record()))
    assert line == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "event": "access",
        "service": "requests",
        "correlation_id": "0192f0c4-7f7c-7b7e-8b7e-0123456789ab",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "method": "POST",
        "path": "/api/v1/requests",
        "route": "create-request",
        "status": 201,
        "bytes_in": 17,
        "bytes_out": 52,
        "duration_ms": 3.25,
        "attempts": 1,
        "upstream_host": "127.0.0.1:3000",
        "idempotency": "executed",
        "breaker": "closed",
        "reason": None,
        "cause": None,
    }
    assert line.keys() == ACCESS_FIELDS


def test_what_does_not_apply_is_null():
    record = access_record(upstream_host="", idempotency="", breaker="", reason="no_route", trace_id=b"")
    line = json.loads(JsonLines("requests").access(*record))
    absent = {name for name, value in line.items() if value is None}
    assert absent == {"upstream_host", "idempotency", "breaker", "trace_id", "cause"}
    assert line["reason"] == "no_route"


def test_queries_are_not_written():
    assert b"secret" not in JsonLines("s").access(*access_record())


def one_line(text: bytes) -> bool:
    """Whether no reader would see a second line, nor a terminal a control sequence."""
    shown = text.decode()
    return (
        text.endswith(b"\n")
        and len(shown.splitlines()) == 1
        and not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown[:-1])
    )


HOSTILE = [
    b'/\r\n{"level":"error"}',
    b"/\x1b]0;owned\x07\x1b[2J",
    b'/"\\',
    b"/\x85\x9b2J",
    b"/\x00",
    "/\u2028\u202e".encode(),
    bytes(range(256)),
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_target_cannot_break_an_access_line(target):
    text = JsonLines("s").access(*access_record(target=target, method=target))
    assert one_line(text)
    assert json.loads(text)["path"] == target.partition(b"?")[0].decode("latin-1")


@pytest.mark.parametrize("value", [*HOSTILE, "\u2028\u2029\u0085", "\u202egnp.exe", "\ud800", "a\nb"])
def test_a_hostile_value_cannot_break_an_event(value):
    text = event_line(value=value, nested={"deep": [value, None, 2**70]})
    assert one_line(text)
    assert set(json.loads(text)) == {"time", "level", "event", "service", "value", "nested"}


@settings(max_examples=150)
@given(
    st.dictionaries(st.text(max_size=10), st.text() | st.binary() | st.integers() | st.floats(), max_size=4)
)
def test_any_fields_make_one_object_on_one_line(fields):
    text = event_line(**fields)
    assert one_line(text)
    assert json.loads(text)["event"] == "something"


def test_fields_cannot_take_the_place_of_fixed_members():
    line = json.loads(event_line(level="fake", time="never", service="other"))
    assert (line["level"], line["service"]) == ("info", "requests")
    assert (line["level_"], line["time_"], line["service_"]) == ("fake", "never", "other")


def test_long_values_are_cut_and_say_so():
    line = json.loads(event_line(value="x" * 5000, raw=b"y" * 1_000_000))
    assert line["value"] == "x" * MAX_TEXT + "… (2952 more)"
    assert len(line["raw"]) < MAX_TEXT + 20


def test_deep_and_wide_values_are_bounded():
    deep: dict = {}
    for _ in range(50):
        deep = {"in": deep}
    text = event_line(deep=deep, wide=list(range(100_000)), many={str(n): n for n in range(1000)})
    assert len(text) < 5000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (2**70, str(2**70)),
        (b"caf\xc3\xa9\xff", "café\\xff"),
        (ValueError("broken"), "ValueError: broken"),
        ({1: {2}}, {"1": [2]}),
        (("a", b"b"), ["a", "b"]),
        (float("nan"), None),
    ],
)
def test_values_become_plain_data(value, shown):
    assert json.loads(event_line(value=value))["value"] == shown


def test_secrets_in_fields_are_masked():
    line = json.loads(
        event_line(
            password="hunter2",
            admin={"token": "t", "name": "n"},
            store="redis://user:hunter2@cache:6379/0",
            error=OSError("cannot reach redis://:hunter2@cache"),
            token="",
        )
    )
    assert "hunter2" not in json.dumps(line)
    assert line["admin"] == {"token": "***", "name": "n"}
    assert line["token"] == ""


def test_times_of_the_next_second_get_their_own_date():
    lines = JsonLines("s")
    times = [
        json.loads(lines.event(Event(wall, "info", "e", {})))["time"]
        for wall in (1_700_000_000.0, 1_700_000_000.0004, 1_700_000_000.999, 1_700_000_001.0)
    ]
    assert times == [
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:20.999Z",
        "2023-11-14T22:13:21.000Z",
    ]
