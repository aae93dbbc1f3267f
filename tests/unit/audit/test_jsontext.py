from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.audit.jsontext import NotJsonError, NotStorableError, dumps, loads


@pytest.mark.parametrize(
    "text",
    [
        "10.10",
        "0.1234567890123456789012345",
        "123456789012345678901234567890",
        "-9223372036854775809",
        "1E+400",
        "1e-7",
        '{"amount":1.50,"items":[1,2.00,null,true,false,"x"]}',
        '"\\\\u0000"',
        '"é\U0001f600"',
    ],
)
def test_a_document_stays_what_it_was_to_the_last_digit(text):
    assert dumps(loads(text.encode())) == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"01",
        b"'a'",
        b"\xff",
        b"\xef\xbb\xbf1",
        b'{"a":1,}',
        b'"\x00"',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json(body):
    with pytest.raises(NotJsonError):
        loads(body)


@pytest.mark.parametrize(
    "body",
    [b'"\\u0000"', b'{"\\u0000":1}', b'["\\\\\\u0000"]', b'"\\ud800"', b"[" * 300 + b"]" * 300],
)
def test_what_jsonb_cannot_hold(body):
    with pytest.raises(NotStorableError):
        dumps(loads(body))


def test_of_repeated_members_the_last_one_counts_as_in_jsonb():
    assert dumps(loads(b'{"a":1,"b":2,"a":3}')) == '{"a":3,"b":2}'


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_values)
def test_any_document_comes_back_or_is_refused(value):
    body = json.dumps(value).encode()
    try:
        text = dumps(loads(body))
    except NotStorableError:
        assert "\\u0000" in json.dumps(value) or "\\ud" in json.dumps(value)
    else:
        assert json.loads(text) == value
