"""The harness's client and upstream against each other, without a sidecar between them."""

from __future__ import annotations

import threading

import pytest

from tests.support.messages import Ended
from tests.support.ports import free_port
from tests.support.raw import Client
from tests.support.upstream import OK, Do, Reply, Upstream


@pytest.fixture
def client(upstream):
    with Client(("127.0.0.1", upstream.port), timeout=5) as client:
        yield client


def test_every_byte_is_recorded(upstream, client):
    mark = upstream.mark()
    sent = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    client.send(sent[:20], sent[20:])
    assert client.response("POST").body == b"ok"
    assert upstream.since(mark) == [sent]
    assert [(it.path, it.body) for it in upstream.requests] == [(b"/a", b"abc")]


def test_replies_are_chosen_by_path(upstream, client):
    upstream.replies["/gone"] = Reply([b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"])
    assert client.request("GET", "/gone?x").status == 410
    assert client.request("GET", "/").status == 200


def test_a_script_waits_for_the_test(upstream, client):
    go_on = threading.Event()
    upstream.reply = Reply([OK[:-1], go_on, b"K"])
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.head().status == 200
    go_on.set()
    assert b"".join(client.reader.pieces(2)) == b"oK"


@pytest.mark.parametrize(("step", "end"), [(Do.CLOSE, "closed"), (Do.RESET, "reset")])
def test_a_close_and_a_reset_are_told_apart(upstream, client, step, end):
    upstream.reply = Reply([OK, step])
    assert client.request("GET", "/").status == 200
    assert client.end() == end


def test_a_truncated_body_is_no_response(upstream, client):
    upstream.reply = Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Do.FINISH_SENDING])
    with pytest.raises(Ended):
        client.request("GET", "/")


def test_an_early_reply_comes_before_the_body(upstream, client):
    upstream.reply = Reply([b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", Do.CLOSE], early=True)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    assert client.response("POST").status == 413


def test_the_end_of_a_connection_is_recorded(upstream):
    for leave, expected in ((Client.close, "closed"), (Client.reset, "reset")):
        client = Client(("127.0.0.1", upstream.port), timeout=5)
        assert client.request("GET", "/").status == 200
        leave(client)
        assert upstream.connections[-1].wait_end() == expected


def test_a_malformed_request_is_kept_for_the_test(upstream, client):
    client.send(b"GET /\r\n\r\n")
    assert client.end() == "closed"
    assert "not a request line" in str(upstream.connections[0].malformed)


def test_unix_sockets(tmp_path):
    path = tmp_path / "s"
    with Upstream(unix=path) as upstream, Client(path, timeout=5) as client:
        assert client.request("GET", "/").status == 200
        assert upstream.url == f"unix:{path}"


def test_tls(authority):
    with (
        Upstream(tls=authority.server_context()) as upstream,
        Client(("127.0.0.1", upstream.port), tls=authority.client_context()) as client,
    ):
        assert client.request("GET", "/").status == 200


def test_ports_are_handed_out_once():
    ports = {free_port() for _ in range(50)}
    assert len(ports) == 50
