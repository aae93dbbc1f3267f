"""The HTTP sender on its own: connections that vanish, TLS, and what it makes of answers."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import contextmanager

import pytest

from sidecar.otlp import Rejected, Target, Unavailable, open_sender
from sidecar.otlp.resource import attribute
from tests.support.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def scripted(*connections, context=None):
    """A server that gives each connection its answers, one per request, then closes it.

    Yields its port and the bodies that it has read.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    requests = []

    def serve():
        for answers in connections:
            peer, _ = listener.accept()
            peer.settimeout(5)
            with context.wrap_socket(peer, server_side=True) if context else peer as stream:
                for answer in answers:
                    requests.append(read_request(stream))
                    stream.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        listener.close()
        thread.join(5)


def read_request(stream):
    data = b""
    while b"\r\n\r\n" not in data:
        data += stream.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < size:
        body += stream.recv(65_536)
    return body


def sender_to(port, **changes):
    return open_sender(Target(url=f"http://127.0.0.1:{port}/v1/traces", timeout=2, **changes), "TraceService")


def test_one_connection_carries_many_requests():
    with scripted([OK, OK, OK]) as (port, requests):
        sender = sender_to(port)
        for number in range(3):
            assert sender.send(b"%d" % number) == b""
        sender.close()
        assert requests == [b"0", b"1", b"2"]


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced():
    with scripted([OK], [OK]) as (port, requests):
        sender = sender_to(port)
        sender.send(b"first")
        sender.send(b"second")
        sender.close()
        assert requests == [b"first", b"second"]


def test_a_collector_that_is_gone_for_good_is_unavailable():
    with scripted([OK]) as (port, _):
        sender = sender_to(port)
        sender.send(b"first")
    with pytest.raises(Unavailable):
        sender.send(b"second")
    with pytest.raises(Unavailable, match="refused"):
        sender.send(b"third")


def test_silence_is_unavailable_and_is_not_tried_twice():
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target(url=f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.05)
        with pytest.raises(Unavailable, match="timed out"):
            open_sender(target, "TraceService").send(b"x")


def test_a_body_that_breaks_off_with_an_error_is_unavailable():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    with scripted([answer]) as (port, _), pytest.raises(Unavailable):
        sender_to(port).send(b"x")


@pytest.mark.parametrize(
    ("answer", "error", "wait"),
    [
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Unavailable, 7.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", Unavailable, None),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 999999\r\nContent-Length: 0\r\n\r\n", Unavailable, 300.0),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", Rejected, None),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", Rejected, None),
    ],
)
def test_the_status_decides_about_another_try(answer, error, wait):
    with scripted([answer]) as (port, _):
        sender = sender_to(port)
        with pytest.raises(error) as raised:
            sender.send(b"x")
        assert getattr(raised.value, "retry_after", None) == wait
        sender.close()


def test_a_password_in_the_url_is_not_in_the_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sender = open_sender(Target(url=f"http://user:hunter2@127.0.0.1:{port}/"), "TraceService")
    with pytest.raises(Unavailable) as raised:
        sender.send(b"x")
    assert "hunter2" not in str(raised.value)


def test_tls_with_certificates_on_both_sides(tmp_path):
    authority = Authority(tmp_path)
    with scripted([OK], context=authority.server_context(ask_client=True)) as (port, requests):
        target = Target(
            url=f"https://127.0.0.1:{port}/v1/traces",
            certificate=str(authority.ca),
            client_certificate=str(authority.client_cert),
            client_key=str(authority.client_key),
        )
        sender = open_sender(target, "TraceService")
        sender.send(b"private")
        sender.close()
        assert requests == [b"private"]


def test_without_the_extra_grpc_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sidecar.otlp.grpc", None)
    with pytest.raises(ValueError, match=r"pip install 'sidecar-proxy\[grpc\]'"):
        open_sender(Target(url="http://c:4317", grpc=True), "TraceService")


def test_a_list_is_an_array_attribute():
    item = attribute("tags", ["a", 1])
    assert [value.WhichOneof("value") for value in item.value.array_value.values] == [
        "string_value",
        "int_value",
    ]
