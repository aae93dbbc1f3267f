"""What a connection may be used for, and when it must not be used again: RFC 9112, section 9."""

from __future__ import annotations

import threading

import pytest

from tests.conformance.vectors import chunked, get, head, post
from tests.support.messages import Broken, Ended
from tests.support.raw import refusal
from tests.support.upstream import OK, Do, Reply
from tests.support.waiting import eventually

SMUGGLED = get(target=b"/smuggled")
FORBIDDEN = head(b"HTTP/1.1 403 Forbidden", b"Content-Length: 0")


def test_one_connection_serves_many_requests_on_either_side(rig):
    with rig.client() as client:
        for number in range(20):
            assert client.request("GET", f"/reuse/{number}").status == 200
    connections = [it for it in rig.upstream.connections if any(b"/reuse/" in r.target for r in it.requests)]
    assert len(connections) == 1


def test_pipelined_requests_are_answered_in_order(rig):
    """RFC 9112, section 9.3.2."""

    def echo_target(connection, request):
        connection.read_body(request)
        connection.send(
            head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(request.target)) + request.target
        )

    rig.upstream.reply = echo_target
    requests = [
        get(target=b"/p/%d" % n)
        if n % 3
        else post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED, target=b"/p/%d" % n)
        for n in range(30)
    ]
    with rig.client() as client:
        client.send(b"".join(requests))
        assert [client.response().body for _ in requests] == [b"/p/%d" % n for n in range(30)]
    assert rig.upstream.on("/smuggled") == []


def test_nothing_behind_a_closing_request_is_read(rig):
    """RFC 9112, section 9.6."""
    mark = rig.upstream.mark()
    with rig.client() as client:
        client.send(get(b"Connection: close", target=b"/last") + SMUGGLED)
        assert client.response()["connection"] == b"close"
        client.end()
    rig.assert_nothing_reached_upstream(mark, before=1)


@pytest.mark.parametrize("poison", [head(b"HTTP/1.1 200 OK", b"Content-Length: 4") + b"EVIL", b"\r\n", b"x"])
def test_an_idle_upstream_connection_that_speaks_is_thrown_away(rig, poison):
    """RFC 9112, section 9.2: octets without a request are not its answer."""
    rig.answer_with(Reply([OK]))
    with rig.client() as client:
        assert client.request("GET", "/answer").status == 200
        connection = rig.used_connection()
        connection.send(poison)
        connection.wait_end()
        again = client.request("GET", "/answer")
        assert (again.status, again.body) == (200, b"ok")
    assert rig.used_connection() is not connection


def test_an_idle_upstream_connection_that_closes_is_not_used(rig):
    """RFC 9112, section 9.3.1."""
    rig.answer_with(Reply([OK, Do.CLOSE]))
    with rig.client() as client:
        for _ in range(10):
            assert client.request("GET", "/answer").status == 200
            rig.used_connection().wait_end()


def test_an_early_answer_does_not_leave_its_body_to_the_next_request(rig):
    """What the upstream has not read yet must not become a request there, nor take the place of one."""
    rig.answer_with(Reply([FORBIDDEN, Do.READ_BODY], early=True))
    with rig.client() as client:
        client.send(post(b"Content-Length: %d" % len(SMUGGLED), target=b"/answer"))
        assert client.response("POST").status == 403
        connection = rig.used_connection()
        rig.sentinel()
        client.send(SMUGGLED)
        rig.sentinel()
    assert connection.malformed is None
    assert rig.upstream.on("/smuggled") == []


def test_a_final_answer_instead_of_100_does_not_desynchronise(rig):
    """RFC 9110, section 10.1.1: a body may still come or not: only closing, or reading on, is safe."""
    rig.answer_with(Reply([FORBIDDEN, Do.READ_BODY], early=True))
    with rig.client() as client:
        length = b"Content-Length: %d" % len(SMUGGLED)
        client.send(post(b"Expect: 100-continue", length, target=b"/answer"))
        response = client.response("POST")
        assert (response.status, response.interim) == (403, [])
        connection = rig.used_connection()
        client.send(SMUGGLED)
        rig.sentinel()
    assert connection.malformed is None
    assert rig.upstream.on("/smuggled") == []


def test_a_bad_chunk_behind_forwarded_ones_never_becomes_a_whole_request(rig):
    """RFC 9112, section 7.1: what was forwarded already must be seen to break off."""
    outcome = []

    def read(connection, request):
        try:
            connection.read_body(request)
        except (Ended, Broken) as error:
            outcome.append(error)
            raise
        outcome.append(request.body)
        connection.send(OK)

    rig.answer_with(read)
    with rig.client() as client:
        client.send(chunked(b"5\r\nhello\r\n").replace(b"POST / ", b"POST /answer "))
        rig.upstream.wait_request("/answer")
        connection = rig.used_connection()
        eventually(lambda: b"hello" in connection.raw, "the first chunk at the upstream")
        client.send(b"zz\r\n" + SMUGGLED)
        response = client.response()
        assert refusal(response) == (400, "BAD_REQUEST")
        client.end()
    connection.wait_end()
    assert len(outcome) == 1
    assert isinstance(outcome[0], (Ended, Broken)), outcome
    assert rig.upstream.on("/smuggled") == []


def test_many_tiny_chunks_cost_no_more_than_their_octets(rig):
    """A quadratic decoder would not be done before the test's time is up."""
    rig.answer_with(Reply([OK]))
    count = 200_000
    with rig.client() as client:
        client.send(chunked(b"1\r\na\r\n" * count + b"0\r\n\r\n").replace(b"POST / ", b"POST /answer "))
        assert client.response().status == 200
    assert rig.upstream.on("/answer")[-1].body == b"a" * count


def test_a_repeated_equal_length_is_refused_or_made_one(rig):
    """RFC 9112, section 6.3 leaves the choice; two lines must never be forwarded."""
    seen = rig.record()
    with rig.client() as client:
        client.send(post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"))
        status = client.response().status
    assert status in (200, 400)
    assert [it["content-length"] for it in seen] == ([b"5"] if status == 200 else [])


def test_a_second_early_hints_is_dropped_or_refused(rig):
    """RFC 8297 allows several, a chain of proxies is safer with one."""
    hints = head(b"HTTP/1.1 103 Early Hints", b"Link: </a>")
    rig.answer_with(Reply([hints, hints, OK]))
    with rig.client() as client:
        response = client.request("GET", "/answer")
    assert len(response.interim) <= 1
    assert response.status in (200, 502)


def test_asterisk_is_answered_and_never_becomes_another_target(rig):
    """RFC 9112, section 3.2.4."""
    seen = rig.record()
    with rig.client() as client:
        client.send(head(b"OPTIONS * HTTP/1.1", b"Host: test"))
        assert client.response("OPTIONS").status in (200, 400, 404)
    assert {it.target for it in seen} <= {b"*"}


def test_a_client_that_has_finished_sending_is_answered(rig):
    """RFC 9112, section 9.6: a half-closed connection is no aborted one."""
    go_on = threading.Event()
    rig.answer_with(Reply([OK[:-1], go_on, OK[-1:]]))
    with rig.client() as client:
        client.send(get(target=b"/answer"))
        client.finish_sending()
        response = client.head()
        go_on.set()
        assert response.status == 200
        assert b"".join(client.reader.pieces(2)) == b"ok"
        client.end()


@pytest.mark.parametrize(
    "request_head",
    [
        post(b"Content-Length: 10", target=b"/answer") + b"hello",
        post(b"Transfer-Encoding: chunked", target=b"/answer") + b"a\r\nhello",
        post(b"Transfer-Encoding: chunked", target=b"/answer") + b"5\r\nhello\r\n0\r\n",
    ],
    ids=["length", "chunk", "trailers"],
)
@pytest.mark.parametrize("leave", ["finish_sending", "reset"])
def test_an_upload_that_breaks_off_never_becomes_a_whole_request(rig, request_head, leave):
    """RFC 9112, section 8."""
    whole = []

    def read(connection, request):
        connection.read_body(request)
        whole.append(request)
        connection.send(OK)

    rig.answer_with(read)
    with rig.client() as client:
        client.send(request_head)
        getattr(client, leave)()
        if leave == "finish_sending":
            _assert_not_answered_well(client)
    rig.sentinel()
    for request in rig.upstream.on("/answer"):
        rig.upstream.connection_of(request).wait_end()
    assert whole == []


def _assert_not_answered_well(client):
    try:
        response = client.response("POST")
    except (Ended, Broken):
        return
    assert response.status in (400, 408)


def test_a_client_that_goes_away_takes_the_upstreams_connection_along(rig):
    """Its answer can never be delivered, and the connection never be used again."""
    never = threading.Event()
    rig.answer_with(Reply([OK[:-1], never]))
    client = rig.client()
    client.send(get(target=b"/answer"))
    assert client.head().status == 200
    connection = rig.used_connection()
    client.reset()
    never.set()
    connection.wait_end()
    rig.sentinel()
    assert connection.requests[-1].path == b"/answer"
