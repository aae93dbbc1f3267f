"""The harness's reader must refuse what the sidecar must never write."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from tests.support import messages
from tests.support.messages import Ended, Malformed, Reader

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def reader_of(data: bytes) -> Reader:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with closing(theirs):
        theirs.sendall(data)
    return Reader(ours)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        GET + b"X : y\r\n\r\n",
        GET + b" folded\r\n\r\n",
        GET + b"X: a\rb\r\n\r\n",
        GET + b"X: a\x00\r\n\r\n",
        GET + b"Content-Length: +1\r\n\r\na",
        GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n",
        GET + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ],
)
def test_malformed_requests_are_refused(sent):
    with pytest.raises(Malformed):
        messages.read_request(reader_of(sent))


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n"])
def test_a_request_needs_one_host(hosts):
    with pytest.raises(AssertionError, match="host"):
        messages.read_request(reader_of(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n"))


def test_a_chunked_request_is_read_with_its_trailers():
    sent = GET + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nnext"
    reader = reader_of(sent)
    request = messages.read_request(reader)
    assert (request.body, request.trailers) == (b"hello", [(b"x-sum", b"1")])
    assert reader.buffer == b"next"
    assert bytes(reader.raw) == sent


@pytest.mark.parametrize("sent", [GET, GET + b"Content-Length: 3\r\n\r\nab"])
def test_a_request_that_breaks_off_is_no_request(sent):
    with pytest.raises(Ended):
        messages.read_request(reader_of(sent))


def test_interim_responses_come_before_the_final_one():
    sent = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    response = messages.read_response(reader_of(sent))
    assert [it.status for it in response.interim] == [103]
    assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize(
    ("method", "head"),
    [("HEAD", b"200 OK\r\nContent-Length: 9"), ("GET", b"204 No"), ("GET", b"304 Not\r\nContent-Length: 9")],
)
def test_responses_without_a_body(method, head):
    reader = reader_of(b"HTTP/1.1 " + head + b"\r\n\r\nrest")
    assert messages.read_response(reader, method).framing == "none"
    assert reader.buffer == b"rest"


@pytest.mark.parametrize("status", [b"100 Continue", b"204 No Content"])
def test_responses_that_must_not_announce_a_body(status):
    with pytest.raises(Malformed):
        messages.read_response_head(reader_of(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"))


def test_a_response_without_length_ends_with_its_connection():
    response = messages.read_response(reader_of(b"HTTP/1.1 200 OK\r\n\r\nall of it"))
    assert (response.framing, response.body) == ("close", b"all of it")
