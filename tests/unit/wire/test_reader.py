"""Readings as transcripts; how the octets may be split is in ``tests/property``."""

import pytest

from sidecar.errors import BadRequest
from tests.support.transcript import read_requests, read_responses
from tests.unit.wire.messages import GET, lines, refusal, rejection

OK = lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"


def test_pipelined_requests_with_every_kind_of_body():
    read = read_requests(
        [
            lines(b"POST /1 HTTP/1.1", b"Host: test", b"Content-Length: 5")
            + b"hello"
            + lines(b"POST /2 HTTP/1.1", b"Host: test", b"Transfer-Encoding: chunked")
            + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
            + lines(b"GET /3 HTTP/1.1", b"Host: test")
            + b"GET /4"
        ]
    )
    assert [(it.head.target, it.payload, it.whole) for it in read.messages] == [
        (b"/1", b"hello", True),
        (b"/2", b"hello", True),
        (b"/3", b"", True),
    ]
    assert read.messages[1].trailers == [b"X-Sum: 1"]
    assert (read.left, read.fault) == (b"GET /4", None)


def test_two_empty_lines_before_a_request_are_ignored_and_counted_anew_for_the_next():
    one = b"\r\n\r\n" + lines(GET, b"Host: test")
    assert len(read_requests([one + one]).messages) == 2


@pytest.mark.parametrize(
    "start",
    [b"\r\n\r\n\r\n", b"\n", b"\rG", b" GET", b"\x00", b"(", b"\xef\xbb\xbf", b"GET\n", b"GET\x00", b"G\rE"],
)
def test_what_can_no_longer_become_a_request_is_refused_without_waiting_for_its_end(start):
    assert type(refusal(start)) is BadRequest


@pytest.mark.parametrize(
    "start", [b"\r", b"\r\n", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: test\r\n\r"]
)
def test_what_may_still_become_one_is_waited_for(start):
    read = read_requests([start])
    assert (read.messages, read.fault) == ([], None)


def test_the_answers_to_several_requests():
    read = read_responses([lines(b"HTTP/1.1 100 Continue") + OK + OK])
    assert [(it.head.status, it.payload) for it in read.messages] == [(100, b""), (200, b"ok"), (200, b"ok")]


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 200 OK\r\nX: \xff\r\n"])
def test_what_may_still_become_a_response_is_waited_for(start):
    assert read_responses([start]).fault is None


@pytest.mark.parametrize("start", [b"X", b"HTTP/2", b"HTTP/1.1 200\n", b"HTTP/1.1 200 OK\r\nX: a\rb"])
def test_what_can_no_longer_become_a_response_is_refused(start):
    assert rejection(start).sent


def test_a_chunked_response_that_is_malformed():
    stream = lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"x\r\n"
    assert rejection(stream).reason == "chunk_size"
