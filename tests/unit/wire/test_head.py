import pytest

from sidecar.errors import (
    BadRequest,
    HeadersTooLarge,
    IdempotencyKeyInvalid,
    NotSupported,
    UpstreamProtocolError,
    UriTooLong,
)
from sidecar.wire.head import Limits
from tests.support.transcript import read_requests, read_responses
from tests.unit.wire.messages import GET, lines, refusal, rejection, request, response


class TestTargets:
    @pytest.mark.parametrize(
        ("line", "target", "path", "host"),
        [
            (b"GET / HTTP/1.1", b"/", b"/", b"test"),
            (b"GET /a/b?c=d?e HTTP/1.1", b"/a/b?c=d?e", b"/a/b", b"test"),
            (b"GET http://test HTTP/1.1", b"/", b"/", b"test"),
            (b"GET HTTP://TEST/a?b HTTP/1.1", b"/a?b", b"/a", b"TEST"),
            (b"GET https://test?b HTTP/1.1", b"/?b", b"/", b"test"),
            (b"OPTIONS * HTTP/1.1", b"*", b"*", b"test"),
            (b"OPTIONS http://test HTTP/1.1", b"*", b"*", b"test"),
            (b"OPTIONS http://test/ HTTP/1.1", b"/", b"/", b"test"),
        ],
    )
    def test_what_is_asked_for(self, line, target, path, host):
        head = request(first=line)
        assert (head.target, head.path, head.host) == (target, path, host)

    def test_an_absolute_target_names_the_host_of_an_old_request(self):
        head = request(first=b"GET http://test:80/ HTTP/1.0", host=None)
        assert head.host == b"test:80"

    @pytest.mark.parametrize(
        "line",
        [
            *(b"GET * HTTP/1.1", b"GET a HTTP/1.1", b"GET /# HTTP/1.1", b"GET http://other/ HTTP/1.1"),
            *(b"GET http://u@test/ HTTP/1.1", b"GET http:/// HTTP/1.1", b"GET ftp://test/ HTTP/1.1"),
        ],
    )
    def test_what_cannot_be_asked_for(self, line):
        assert type(refusal(lines(line, b"Host: test"))) is BadRequest

    def test_connect(self):
        assert type(refusal(lines(b"CONNECT test:80 HTTP/1.1", b"Host: test"))) is NotSupported


class TestHosts:
    @pytest.mark.parametrize(
        "host",
        [b"test", b"test:8080", b"a.b-c_d~", b"[::1]", b"[::ffff:1.2.3.4]:80", b"test:65535", b"test:00080"],
    )
    def test_well_formed(self, host):
        assert request(host=host).host == host

    @pytest.mark.parametrize(
        "host",
        [
            *(b"", b"a b", b"a,b", b"u@test", b"test:", b"test:x", b"test:65536", b"test:123456", b"[::1"),
            *(b"test/", b"a%20b", b"[g::1]", b"\xe9", b"a" * 256),
        ],
    )
    def test_malformed(self, host):
        assert refusal(lines(GET, b"Host: " + host)).reason == "host_malformed"

    def test_one_and_only_one(self):
        assert refusal(lines(GET)).reason == "host_missing"
        assert refusal(lines(GET, b"Host: test", b"host: test")).reason == "host_repeated"

    def test_an_old_request_may_have_none(self):
        assert request(first=b"GET / HTTP/1.0", host=None).host == b""

    def test_more_hosts_than_are_remembered(self):
        for number in range(300):
            assert request(host=b"h%d" % number).host == b"h%d" % number


class TestRequestLength:
    @pytest.mark.parametrize(
        ("field", "length"),
        [
            (b"Content-Length: 0", 0),
            (b"Content-Length:\t5 ", 5),
            (b"Content-Length: 005", 5),
            (b"Content-Length: 999999999999999999", 999_999_999_999_999_999),
            (b"Transfer-Encoding: Chunked", None),
            (b"X-A: 1", 0),
        ],
    )
    def test_one_length(self, field, length):
        assert request(field).length == length

    @pytest.mark.parametrize(
        "fields",
        [
            [b"Content-Length: "],
            [b"Content-Length: +5"],
            [b"Content-Length: -5"],
            [b"Content-Length: 5_0"],
            [b"Content-Length: 0x5"],
            [b"Content-Length: 5, 5"],
            [b"Content-Length: 5", b"Content-Length: 5"],
            [b"Content-Length: 1000000000000000000"],
            [b"Content-Length: \xa05"],
            [b"Transfer-Encoding: gzip"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
            [b"Content-Length: 5", b"Transfer-Encoding: identity"],
        ],
    )
    def test_every_doubt_is_refused(self, fields):
        assert type(refusal(lines(GET, b"Host: test", *fields))) is BadRequest

    def test_an_old_request_is_never_chunked(self):
        old = lines(b"POST / HTTP/1.0", b"Host: test", b"Transfer-Encoding: chunked")
        assert refusal(old).reason == "framing"


class TestRequestConnection:
    @pytest.mark.parametrize(
        ("first", "fields", "persistent"),
        [
            (GET, [], True),
            (GET, [b"Connection: X-A, Close"], False),
            (GET, [b"Connection: keep-alive"], True),
            (b"GET / HTTP/1.0", [], False),
            (b"GET / HTTP/1.0", [b"Connection: keep-alive"], True),
            (b"GET / HTTP/1.0", [b"Connection: X-A"], False),
            (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], False),
        ],
    )
    def test_whether_it_can_be_used_again(self, first, fields, persistent):
        assert request(*fields, first=first).persistent is persistent

    def test_what_it_names_goes_no_further(self):
        head = request(b"X-A: 1", b"Connection: x-a", b"X-B: 2")
        assert head.fields.lines == [b"X-B: 2"]

    @pytest.mark.parametrize(
        ("fields", "upgrade"),
        [
            ([b"Connection: Upgrade", b"Upgrade: WebSocket"], b"WebSocket"),
            ([b"Connection: Upgrade", b"Upgrade: h2c, a ,", b"Upgrade: H2C,b/1"], b"a, b/1"),
            ([b"Connection: Upgrade", b"Upgrade: h2c"], None),
            ([b"Connection: Upgrade"], None),
            ([b"Upgrade: websocket"], None),
            ([b"Connection: close", b"Upgrade: websocket"], None),
        ],
    )
    def test_an_upgrade_counts_when_connection_names_it(self, fields, upgrade):
        assert request(*fields).upgrade == upgrade

    def test_an_old_request_cannot_ask_for_an_upgrade(self):
        fields = [b"Connection: Upgrade", b"Upgrade: websocket"]
        assert request(*fields, first=b"GET / HTTP/1.0").upgrade is None

    @pytest.mark.parametrize(
        ("first", "expect", "waits"),
        [
            (GET, b"100-Continue", True),
            (GET, b"something", False),
            (b"GET / HTTP/1.0", b"100-continue", False),
        ],
    )
    def test_whether_the_client_waits_for_a_100(self, first, expect, waits):
        assert request(b"Expect: " + expect, first=first).expects_continue is waits

    def test_whether_trailers_are_welcome(self):
        assert request(b"TE: gzip, Trailers").accepts_trailers
        assert not request(b"TE: gzip").accepts_trailers


class TestRequestValues:
    def test_of_any_field(self):
        head = request(b"Accept: a", b"accept: b", b"Via: 1.1 x")
        assert head.values(b"accept") == [b"a", b"b"]
        assert head.values(b"via") == [b"1.1 x"]
        assert head.values(b"x-none") == []


class TestRequestLimits:
    @pytest.mark.parametrize(
        ("limits", "error"),
        [
            (Limits(request_line=20), UriTooLong),
            (Limits(header_bytes=40), HeadersTooLarge),
            (Limits(headers=1), HeadersTooLarge),
        ],
    )
    def test_each_has_its_answer(self, limits, error):
        stream = lines(b"GET /aaaaaaaaaaaaaa HTTP/1.1", b"Host: test", b"X-A: 1")
        assert type(read_requests([stream], limits).fault) is error


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (lines(b"GET /"), "not METHOD TARGET HTTP/1.1"),
        (lines(b"GET / ICAP/1.0"), "does not end with an HTTP version"),
        (lines(b"GET / HTTP/2.0"), "only HTTP/1.1 and HTTP/1.0"),
        (lines(GET, b"Host: test", b" folded"), "obs-fold"),
        (lines(GET, b"Host: test", b"no colon"), "has no colon"),
        (lines(GET, b"Host : test"), "white space before a header field's colon"),
        (lines(GET, b"Host: te\x00st"), "control character"),
        (lines(GET, b"Host: test", b": 1"), "name is not a token"),
        (lines(GET, b"Host: te\rst"), "bare CR or LF"),
    ],
)
def test_a_refused_request_is_told_why(stream, says):
    assert says in refusal(stream).message


def test_a_key_with_a_control_character_is_an_invalid_key():
    stream = lines(GET, b"Host: test", b"X-A: 1", b"idempotency-KEY: a\x01b")
    assert type(refusal(stream)) is IdempotencyKeyInvalid


class TestResponseLength:
    @pytest.mark.parametrize(
        ("first", "fields", "method", "length"),
        [
            (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], b"GET", 5),
            (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], b"HEAD", 0),
            (b"HTTP/1.1 204 No Content", [b"Content-Length: 5"], b"GET", 0),
            (b"HTTP/1.1 304 Not Modified", [b"Transfer-Encoding: chunked"], b"GET", 0),
            (b"HTTP/1.1 103 Early Hints", [], b"GET", 0),
            (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: CHUNKED"], b"GET", None),
            (b"HTTP/1.1 200 OK", [], b"GET", None),
        ],
    )
    def test_one_length(self, first, fields, method, length):
        assert response(*fields, first=first, method=method).length == length

    def test_what_was_declared_is_known_where_there_is_no_body(self):
        assert response(b"Content-Length: 5", method=b"HEAD").declared == 5

    def test_a_body_up_to_the_end_takes_the_connection_with_it(self):
        head = response()
        assert not head.chunked
        assert not head.persistent

    @pytest.mark.parametrize(
        "fields",
        [
            [b"Content-Length: 5", b"Content-Length: 5"],
            [b"Content-Length: +5"],
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
            [b"Transfer-Encoding: gzip, chunked"],
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        ],
    )
    def test_every_doubt_is_refused(self, fields):
        assert type(rejection(lines(b"HTTP/1.1 200 OK", *fields))) is UpstreamProtocolError

    def test_an_old_response_is_never_chunked(self):
        old = lines(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked")
        assert rejection(old).reason == "framing"


class TestResponseConnection:
    @pytest.mark.parametrize(
        ("first", "fields", "persistent"),
        [
            (b"HTTP/1.1 200 OK", [], True),
            (b"HTTP/1.1 200 OK", [b"Connection: close"], False),
            (b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], True),
            (b"HTTP/1.0 200 OK", [], False),
            (b"HTTP/1.0 200 OK", [b"Connection: Keep-Alive"], True),
        ],
    )
    def test_whether_it_can_be_used_again(self, first, fields, persistent):
        assert response(b"Content-Length: 0", *fields, first=first).persistent is persistent

    def test_what_it_names_goes_no_further(self):
        assert response(b"X-A: 1", b"Connection: x-a").fields.lines == []

    def test_values_of_any_field(self):
        head = response(b"Server: s", b"Content-Type: a/b")
        assert (head.values(b"server"), head.values(b"content-type")) == ([b"s"], [b"a/b"])


@pytest.mark.parametrize(
    ("first", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.1 999 \xe9 a", 999, b"\xe9 a"),
    ],
)
def test_status_lines(first, status, reason):
    head = response(first=first)
    assert (head.status, head.reason) == (status, reason)


def test_more_status_lines_than_are_remembered():
    for number in range(300):
        head = response(first=b"HTTP/1.1 200 number %d" % number)
        assert (head.status, head.reason) == (200, b"number %d" % number)


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (lines(b"HTTP/2.0 200 OK"), "not HTTP/1.x"),
        (lines(b"HTTP/1.2 200 OK"), "not HTTP/1.x"),
        (lines(b"HTTP/1.1 2x0 OK"), "not three digits"),
        (lines(b"HTTP/1.1 200 OK", b"no colon"), "has no colon"),
        (lines(b"HTTP/1.1 200 OK", b"X-A: \n"), "bare CR or LF"),
        (b"HTTP/1.1 200 OK\nX-A: 1", "bare CR or LF"),
        (b"hello", "not HTTP/1.x"),
    ],
)
def test_a_refused_response_is_told_why(stream, says):
    assert says in rejection(stream).message


@pytest.mark.parametrize(
    ("stream", "limits"),
    [
        (lines(b"HTTP/1.1 200 OK", b"X-A: 1", b"X-B: 1"), Limits(headers=1)),
        (lines(b"HTTP/1.1 200 OK", b"X-A: " + b"a" * 40), Limits(header_bytes=40)),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 40, Limits(header_bytes=40)),
    ],
)
def test_a_response_over_a_limit(stream, limits):
    assert type(read_responses([stream], limits=limits).fault) is UpstreamProtocolError


def test_heads_describe_themselves():
    assert repr(request(b"Content-Length: 5")) == "<RequestHead b'GET' b'/' length=5>"
    assert repr(response()) == "<ResponseHead 200 length=None chunked=False>"
