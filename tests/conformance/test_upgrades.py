"""Upgrades become tunnels after a real 101, and nothing else does: RFC 9110, section 7.8, RFC 6455."""

from __future__ import annotations

import threading

import pytest

from tests.conformance.vectors import get, head, post
from tests.support.upstream import OK, Do, Reply
from tests.support.waiting import eventually

UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")
SWITCH = head(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")


def switch_to_echo(connection, request):
    """Answers 101 and sends everything back, until the other side has finished."""
    connection.read_body(request)
    connection.send(SWITCH)
    for piece in connection.reader.rest():
        connection.send(piece)
    connection.finish_sending()


def test_a_tunnel_passes_octets_both_ways(rig):
    rig.answer_with(switch_to_echo)
    with rig.client() as client:
        client.send(get(*UPGRADE, b"Sec-WebSocket-Key: a", target=b"/answer"))
        response = client.head()
        assert response.status == 101
        assert response["upgrade"] == b"websocket"
        assert response["connection"].lower() == b"upgrade"
        assert "x-correlation-id" in response
        for data in (b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 4096):
            client.send(data)
            assert b"".join(client.reader.pieces(len(data))) == data
        client.finish_sending()
        client.end()
    request = rig.upstream.on("/answer")[-1]
    assert request["upgrade"] == b"websocket"
    assert request["connection"].lower() == b"upgrade"
    assert request["sec-websocket-key"] == b"a"


def test_octets_behind_an_upgrade_wait_for_the_101(rig):
    """They might be a request, if the upstream stays with HTTP."""
    seen = []

    def switch(connection, request):
        connection.read_body(request)
        rig.sentinel()
        seen.append(connection.has_more())
        connection.send(SWITCH)
        seen.append(b"".join(connection.reader.pieces(5)))
        connection.close()

    rig.answer_with(switch)
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer") + b"early")
        assert client.head().status == 101
        client.end()
    assert seen == [False, b"early"]


def test_octets_of_the_upstream_right_behind_its_101_are_passed(rig):
    rig.answer_with(Reply([SWITCH + b"first", Do.CLOSE]))
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer"))
        assert client.head().status == 101
        assert b"".join(client.reader.pieces(5)) == b"first"
        client.end()


@pytest.mark.parametrize("status", [b"200 OK", b"426 Upgrade Required", b"403 Forbidden"])
def test_octets_behind_a_refused_upgrade_are_no_tunnel(rig, status):
    rig.answer_with(Reply([head(b"HTTP/1.1 " + status, b"Content-Length: 2") + b"no"]))
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer"))
        assert client.response().status == int(status[:3])
        # Still HTTP on this connection: it is either closed, or the next request is answered as one.
        client.send(get(target=b"/next"))
        if client.reader.more():
            assert client.response().status == 200
    connection = rig.used_connection()
    assert connection.malformed is None
    assert not any(it.path == b"/next" and "upgrade" in it for it in rig.upstream.requests)


def test_the_body_of_an_upgrade_is_no_tunnel(rig):
    """The 101 comes behind the whole request; what follows the body is the tunnel's."""
    bodies = []

    def switch(connection, request):
        connection.read_body(request)
        bodies.append(request.body)
        connection.send(SWITCH)
        bodies.append(b"".join(connection.reader.pieces(6)))
        connection.close()

    rig.answer_with(switch)
    with rig.client() as client:
        client.send(post(*UPGRADE, b"Content-Length: 5", body=b"hello", target=b"/answer"))
        assert client.head().status == 101
        client.send(b"tunnel")
        client.end()
    assert bodies == [b"hello", b"tunnel"]


def test_a_connection_is_not_used_again_behind_a_refused_upgrade_whose_body_was_not_read(rig):
    rig.answer_with(Reply([head(b"HTTP/1.1 403 No", b"Content-Length: 0"), Do.READ_BODY], early=True))
    smuggled = get(target=b"/smuggled")
    with rig.client() as client:
        client.send(post(*UPGRADE, b"Content-Length: %d" % len(smuggled), target=b"/answer"))
        assert client.response("POST").status == 403
        rig.sentinel()
        client.send(smuggled)
        rig.sentinel()
    assert rig.upstream.on("/smuggled") == []


def test_the_upstreams_end_of_a_tunnel_reaches_the_client(rig):
    rig.answer_with(Reply([SWITCH + b"bye", Do.CLOSE]))
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer"))
        assert client.head().status == 101
        assert b"".join(client.reader.rest()) == b"bye"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_the_clients_end_of_a_tunnel_reaches_the_upstream(rig, leave):
    rig.answer_with(switch_to_echo)
    client = rig.client()
    client.send(get(*UPGRADE, target=b"/answer"))
    assert client.head().status == 101
    connection = rig.used_connection()
    getattr(client, leave)()
    connection.wait_end()
    rig.sentinel()
    assert connection.requests[-1].path == b"/answer"


def test_a_half_closed_tunnel_still_delivers_the_other_half(rig):
    """A client may say all it has to say, and then listen."""
    answered = threading.Event()

    def switch(connection, request):
        connection.read_body(request)
        connection.send(SWITCH)
        question = b"".join(connection.reader.rest())
        answered.set()
        connection.send(b"answer to " + question)
        connection.finish_sending()

    rig.answer_with(switch)
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer"))
        assert client.head().status == 101
        client.send(b"question")
        client.finish_sending()
        assert b"".join(client.reader.rest()) == b"answer to question"
    assert answered.is_set()


def test_the_connection_of_a_tunnel_is_never_used_again(rig):
    rig.answer_with(switch_to_echo)
    with rig.client() as client:
        client.send(get(*UPGRADE, target=b"/answer"))
        assert client.head().status == 101
        client.finish_sending()
        client.end()
    connection = rig.used_connection()
    eventually(connection.ended.is_set, "the upstream's side of the tunnel has ended")
    rig.sentinel()
    assert connection.requests[-1].path == b"/answer"


def test_several_protocols_are_offered_as_the_client_said(rig):
    rig.answer_with(Reply([OK]))
    with rig.client() as client:
        client.send(get(b"Connection: upgrade", b"Upgrade: foo/2, websocket, h2c", target=b"/answer"))
        assert client.response().status == 200
    assert rig.upstream.on("/answer")[-1]["upgrade"] == b"foo/2, websocket"
