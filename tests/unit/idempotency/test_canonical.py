import json

import pytest

from sidecar.idempotency.canonical import canonical_form, canonical_json


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":2}', b'{ "b": 2,\n\t"a": 1 }'),
        (b'{"a":{"x":[1,2],"y":null}}', b'{"a":{"y":null,"x":[1,2]}}'),
        (b"[true, false]", b"[true,false]"),
        (b'"caf\\u00e9"', '"café"'.encode()),
        (b'{"n":9007199254740992}', b'{"n": 9007199254740992}'),
        (b'{"n":1e2}', b'{"n":100.0}'),
        (b'{"n":18014398509481984}', b'{ "n":18014398509481984}'),
    ],
)
def test_equal_documents(one, other):
    assert canonical_json(one) is not None
    assert canonical_json(one) == canonical_json(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[1,2]", b"[2,1]"),
        (b"1", b"1.0"),
        (b'"1"', b"1"),
        (b'{"a":null}', b"{}"),
        (b"0.1", b"0.2"),
        (b'"\\ud800"', b'"\\ud801"'),
    ],
)
def test_different_documents(one, other):
    assert canonical_json(one) != canonical_json(other)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a':1}",
        b"NaN",
        b"-Infinity",
        b"\xff",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":2}}]',
        b"9007199254740993",
        b"-9007199254740993",
        b"1" * 401,
        b"1" * 310,
        b"1e400",
        b"0.1000000000000000000001",
        b"1." + b"1" * 400,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_documents_that_have_to_be_compared_byte_by_byte(body):
    assert canonical_json(body) is None


def test_the_canonical_form_is_json_of_the_same_value():
    body = b'{"z":[1,2.5,{"b":"\\n","a":null}],"a":-0.5}'
    canonical = canonical_json(body)
    assert canonical is not None
    assert json.loads(canonical) == json.loads(body)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a=1&b=2", b"b=2&a=1"),
        (b"a=1&b=2&a=3", b"b=2&a=1&a=3"),
        (b"a=x+y", b"a=x%20y"),
        (b"%61=1&b=2", b"b=2&a=1"),
    ],
)
def test_equal_forms(one, other):
    assert canonical_form(one) == canonical_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a=1&a=2", b"a=2&a=1"),
        (b"%61=1&a=2", b"a=2&%61=1"),
        (b"a", b"a="),
        (b"a=1", b"a=1&"),
        (b"a=1&b=2", b"a=1&b=3"),
        (b"ab=c", b"a=bc"),
        (b"a=%26b", b"a=&b"),
    ],
)
def test_different_forms(one, other):
    assert canonical_form(one) != canonical_form(other)
