import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.events.envelope import EnvelopeError, members_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_values_and_their_own_text():
    members = members_of(b'{"a": 1.10, "b":{"c": [1, 2]} ,\n"d":"x\\u0041"}')
    assert {name: member.value for name, member in members.items()} == {
        "a": 1.1,
        "b": {"c": [1, 2]},
        "d": "xA",
    }
    assert {name: member.text for name, member in members.items()} == {
        "a": b"1.10",
        "b": b'{"c": [1, 2]}',
        "d": b'"x\\u0041"',
    }


def test_an_empty_object():
    assert members_of(b" { } ") == {}


def test_numbers_beyond_a_double_keep_their_digits():
    assert members_of(b'{"n":123456789012345678901234567890}')["n"].text == b"123456789012345678901234567890"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b"{a:1}",
        b'{"a" 1}',
        b'{"a":1 "b":2}',
        b'{"a":1} x',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_what_is_no_object(document):
    with pytest.raises(EnvelopeError):
        members_of(document)


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.sampled_from([None, 2]))
def test_any_object(content, indent):
    members = members_of(json.dumps(content, indent=indent).encode())
    assert {name: member.value for name, member in members.items()} == content
    assert {name: json.loads(member.text) for name, member in members.items()} == content
