"""Which keys are keys, and when two requests with one key are the same request."""

from __future__ import annotations

import json

import pytest

from tests.support.pair import Pair
from tests.support.raw import error_of
from tests.support.upstream import Reply, answer

pytestmark = pytest.mark.xdist_group("idempotency keys")

KINDS = ("raw", "json", "form", "multipart")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    routes = [
        {"name": it, "match": {"prefix": f"/{it}"}, "upstream": "app", "idempotency": {"fingerprint": it}}
        for it in KINDS
    ]
    routes.append({"name": "default", "match": {"prefix": "/"}, "upstream": "app"})
    with Pair(tmp_path_factory.mktemp("keys"), routes=routes) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    shared.upstream.reply = Reply([answer(b"done", status="201 Created")])
    return shared


def post(pair, target, *lines, body=b""):
    """A request with field lines as octets, so that every octet is the test's."""
    head = [b"POST %b HTTP/1.1" % target.encode(), b"Host: test", b"Content-Length: %d" % len(body), *lines]
    with pair.client() as client:
        client.send(b"\r\n".join([*head, b"", b""]) + body)
        return client.response("POST")


# RFC 8941, section 3.3.3, and what clients really send.
GOOD = {
    b"k": b"k",
    b"  padded\t": b"padded",
    b"8e03978e-40d5-43dd-bc93-6894a57f9324": b"8e03978e-40d5-43dd-bc93-6894a57f9324",
    b"a/b+c==": b"a/b+c==",
    b"!#$%&'()*+-./:<=>?@[]^_`{|}~": b"!#$%&'()*+-./:<=>?@[]^_`{|}~",
    b"x" * 255: b"x" * 255,
    b'"quoted"': b"quoted",
    b'"with spaces"': b"with spaces",
    b'"a, b; c"': b"a, b; c",
    rb'"escaped \" and \\"': rb"""escaped " and \ """.strip(),
    b'"' + b"y" * 255 + b'"': b"y" * 255,
    rb'"%b"' % (rb"\"" * 255): b'"' * 255,
}
BAD = [
    b"",
    b"   ",
    b'""',
    b"two words",
    b"a,b",
    b"a;b=1",
    b"back\\slash",
    b'in"side',
    b'"unclosed',
    b'closed"',
    b'"',
    b'"a" b',
    b'"a", "b"',
    b'"a";p=1',
    rb'"bad \escape"',
    rb'"unclosed \"',
    b'"tab\there"',
    "kéy".encode(),
    '"kéy"'.encode(),
    b"k\x80",
    b"x" * 256,
    b'"' + b"x" * 256 + b'"',
    b"x" * 5000,
]


@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
def test_a_good_key_protects(pair, value):
    target = f"/good/{GOOD[value].hex()[:100]}"
    line = b"Idempotency-Key: " + value
    first, again = (post(pair, target, line) for _ in range(2))
    assert (first.status, again.status, again["x-idempotent-replayed"]) == (201, 201, b"true")
    assert len(pair.upstream.requests) == 1


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
def test_a_bad_one_is_refused_and_nothing_is_forwarded(pair, value):
    response = post(pair, "/bad", b"Idempotency-Key: " + value, body=b"x")
    error = error_of(response)
    assert (response.status, error["code"]) == (400, "IDEMPOTENCY_KEY_INVALID")
    assert pair.upstream.requests == []
    if len(value.strip()) > 3:
        assert value.strip(b' "\t').decode("latin-1") not in error["message"]


def test_two_are_refused_even_when_they_are_equal(pair):
    response = post(pair, "/bad", b"Idempotency-Key: a", b"idempotency-key: a")
    assert error_of(response)["code"] == "IDEMPOTENCY_KEY_INVALID"
    assert pair.upstream.requests == []


def test_control_characters_are_no_field_value_at_all(pair):
    for octet in (b"\x00", b"\x07", b"\x1b", b"\x7f"):
        assert post(pair, "/bad", b'Idempotency-Key: "a%bb"' % octet).status == 400
    assert pair.upstream.requests == []


def test_a_quoted_key_and_a_bare_one_are_the_same(pair):
    first = post(pair, "/same", b"Idempotency-Key: same-key")
    again = post(pair, "/same", b'Idempotency-Key: "same-key"')
    assert (first.status, again["x-idempotent-replayed"]) == (201, b"true")


def test_upper_and_lower_case_differ(pair):
    for key in (b"case", b"CASE"):
        assert "x-idempotent-replayed" not in post(pair, "/case", b"Idempotency-Key: " + key)


def same(pair, kind, *bodies, media_type):
    """Whether all bodies are one request under one key."""
    key = b"Idempotency-Key: %d" % abs(hash((kind, bodies, media_type)))
    responses = [
        post(pair, f"/{kind}", key, b"Content-Type: " + media_type.encode(), body=body) for body in bodies
    ]
    assert responses[0].status == 201
    assert {it.status for it in responses[1:]} <= {201, 422}
    return all(it.status == 201 for it in responses)


JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class TestFingerprints:
    def test_raw_compares_every_octet(self, pair):
        assert same(pair, "raw", b'{"a":1}', b'{"a":1}', media_type=JSON)
        assert not same(pair, "raw", b'{"a":1}', b'{"a": 1}', media_type=JSON)

    def test_json_ignores_order_and_white_space(self, pair):
        bodies = [b'{"a":1,"b":[1,2]}', b' {"b": [1, 2],\r\n "a": 1}\n', b'{"\\u0061":1,"b":[1,2]}']
        assert same(pair, "json", *bodies, media_type=JSON)
        nested = [json.dumps({"x": {"p": 1, "q": {"r": None}}}).encode(), b'{"x":{"q":{"r":null},"p":1}}']
        assert same(pair, "json", *nested, media_type=JSON)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (b'{"a":1}', b'{"a":2}'),
            (b'{"a":1}', b'{"a":"1"}'),
            (b'{"a":1}', b'{"A":1}'),
            (b'{"a":[1,2]}', b'{"a":[2,1]}'),
            (b'{"a":null}', b"{}"),
            (b'{"a":true}', b'{"a":1}'),
            (b'{"a":1,"a":2}', b'{"a":2}'),  # repeated members are taken raw
            (b'{"a":1,"a":2}', b'{"a":2,"a":1}'),
            (b"12345678901234567890123", b"12345678901234567890124"),  # beyond a double
            (b"1e400", b"1e401"),
            (b"not json", b"not  json"),
            (b"", b" "),
            (b"[1]", b"[1] garbage"),
        ],
    )
    def test_json_knows_different_values(self, pair, one, other):
        assert not same(pair, "json", one, other, media_type=JSON)

    def test_form_ignores_the_order_of_names(self, pair):
        assert same(pair, "form", b"a=1&b=2&a=3", b"b=2&a=1&a=3", media_type=FORM)
        assert not same(pair, "form", b"a=1&a=3", b"a=3&a=1", media_type=FORM)
        assert not same(pair, "form", b"a=1&b=2", b"a=1&b=3", media_type=FORM)

    def test_multipart_ignores_the_boundary(self, pair):
        def multipart(boundary, value):
            return (
                f"--{boundary}\r\nContent-Disposition: form-data; name=a\r\n\r\n{value}\r\n--{boundary}--\r\n"
            ).encode()

        def send(key, boundary, value):
            media_type = f"Content-Type: multipart/form-data; boundary={boundary}".encode()
            key = b"Idempotency-Key: " + key
            return post(pair, "/multipart", key, media_type, body=multipart(boundary, value))

        assert send(b"m1", "one", "x").status == 201
        assert send(b"m1", "another", "x")["x-idempotent-replayed"] == b"true"
        assert send(b"m1", "another", "y").status == 422

    @pytest.mark.parametrize("kind", KINDS)
    def test_framing_never_matters(self, pair, kind):
        body = b'{"a": 1}'
        key = b"Idempotency-Key: framing"
        head = b"POST /%b HTTP/1.1\r\nHost: test\r\n%b\r\nContent-Type: application/json\r\n" % (
            kind.encode(),
            key,
        )
        framings = [
            b"Content-Length: 8\r\n\r\n" + body,
            b"Transfer-Encoding: chunked\r\n\r\n8\r\n" + body + b"\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"1;x=%d\r\n%c\r\n" % (n, octet) for n, octet in enumerate(body))
            + b"0\r\nX-Trailer: 1\r\n\r\n",
        ]
        with pair.client() as client:
            replays = []
            for framing in framings:
                client.send(head + framing)
                replays.append("x-idempotent-replayed" in client.response("POST"))
        assert replays == [False, True, True]

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_query_and_the_media_type_count(self, pair, kind):
        key = b"Idempotency-Key: %b-q" % kind.encode()
        assert post(pair, f"/{kind}", key, b"Content-Type: a/b", body=b"x").status == 201
        assert post(pair, f"/{kind}?q", key, b"Content-Type: a/b", body=b"x").status == 422
        assert post(pair, f"/{kind}", key, b"Content-Type: a/c", body=b"x").status == 422
        assert post(pair, f"/{kind}", key, body=b"x").status == 422
