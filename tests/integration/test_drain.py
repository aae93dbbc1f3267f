"""SIGTERM: ``/readyz`` fails first, nothing that is under way is lost, and the process ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time

import httpx
import pytest

from tests.support.messages import Broken, Ended
from tests.support.ports import free_port
from tests.support.raw import Client
from tests.support.sidecar import config_for
from tests.support.upstream import OK, Reply, answer
from tests.support.waiting import eventually

IN_FLIGHT = 200


@pytest.fixture
def sidecar(start_sidecar, upstream):
    config = config_for(upstream.url, drain_timeout="10s")
    config["upstreams"]["app"]["bulkhead"] = {"max_concurrent": 500}
    return start_sidecar(config)


def refuses(sidecar):
    """Whether the listener is closed."""
    try:
        sidecar.client().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_do_it_ends_at_once(sidecar, number):
    with sidecar.client() as idle:
        assert idle.request("GET", "/").status == 200
        began = time.monotonic()
        sidecar.process.signal(number)
        assert idle.end() == "closed"
    assert sidecar.process.wait() == 0
    assert time.monotonic() - began < 5
    events = [line["event"] for line in sidecar.logs()]
    assert events.index("draining") < events.index("stopped")


def test_a_tls_client_that_says_no_farewell_holds_nothing_up(start_sidecar, upstream, authority):
    """Its close_notify never comes: it has stopped reading."""
    address = ("127.0.0.1", free_port())
    certificate = {"cert": str(authority.cert), "key": str(authority.key)}
    config = config_for(upstream.url, drain_timeout="20s")
    config["listeners"] = [{"name": "tls", "bind": f"127.0.0.1:{address[1]}", "tls": certificate}]
    sidecar = start_sidecar(config)
    with Client(address, tls=authority.client_context()) as silent:
        assert silent.request("GET", "/").status == 200
        began = time.monotonic()
        sidecar.process.signal(signal.SIGTERM)
        assert sidecar.process.wait() == 0
    assert time.monotonic() - began < 10
    assert "drain timeout" not in [line["event"] for line in sidecar.logs()]


async def test_two_hundred_requests_in_flight_lose_none(sidecar, upstream):
    """Half with bodies and keys, half without; each is answered, and told to close."""
    go_on = threading.Event()
    upstream.reply = Reply([go_on, answer(b"late")])
    limits = httpx.Limits(max_connections=IN_FLIGHT)
    async with httpx.AsyncClient(base_url=sidecar.url, trust_env=False, timeout=30, limits=limits) as client:

        def request(number):
            if number % 2:
                return client.get(f"/{number}")
            return client.post(f"/{number}", content=b"x" * 5000, headers={"Idempotency-Key": str(number)})

        tasks = [asyncio.create_task(request(number)) for number in range(IN_FLIGHT)]
        await asyncio.to_thread(
            eventually, lambda: len(upstream.requests) == IN_FLIGHT, "all of them are at the upstream"
        )
        sidecar.process.signal(signal.SIGTERM)
        await asyncio.to_thread(
            eventually, lambda: sidecar.get("/readyz").status_code == 503, "it is not ready any more"
        )
        assert sidecar.get("/healthz").status_code == 200
        await asyncio.to_thread(eventually, lambda: refuses(sidecar), "it takes no further connection")
        assert sidecar.process.exit_code is None
        go_on.set()
        answers = await asyncio.gather(*tasks)
    assert {(it.status_code, it.content) for it in answers} == {(200, b"late")}
    assert {it.headers["connection"] for it in answers} == {"close"}
    assert await asyncio.to_thread(sidecar.process.wait) == 0
    assert len(sidecar.access_lines(status=200)) == IN_FLIGHT


def test_a_body_that_is_coming_may_come_to_its_end(sidecar, upstream):
    with sidecar.client() as client:
        client.send(b"POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        upstream.wait_request("/up")
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: refuses(sidecar), "it drains")
        client.send(b"world")
        response = client.response("POST")
        assert (response.status, response["connection"]) == (200, b"close")
    assert sidecar.process.wait() == 0
    assert upstream.on("/up")[0].body == b"helloworld"


def test_a_response_that_is_coming_may_come_to_its_end(sidecar, upstream):
    go_on = threading.Event()
    upstream.reply = Reply([OK[:-1], go_on, OK[-1:]])
    with sidecar.client() as client:
        client.send(b"GET /down HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.head().status == 200
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: refuses(sidecar), "it drains")
        go_on.set()
        assert b"".join(client.reader.pieces(2)) == b"ok"
        assert client.end() == "closed"
    assert sidecar.process.wait() == 0


def test_a_head_that_is_coming_is_answered(sidecar, upstream):
    with sidecar.client() as client:
        client.send(b"GET /half HTTP/1.1\r\nHo")
        eventually(lambda: sidecar.metric("process_open_fds") >= 0, "the admin port answers")
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: refuses(sidecar), "it drains")
        client.send(b"st: test\r\n\r\n")
        with contextlib.suppress(Ended, Broken):
            assert client.response().status == 200
    assert sidecar.process.wait() == 0


def test_a_keyed_request_whose_client_is_gone_is_finished(sidecar, upstream):
    go_on = threading.Event()
    upstream.reply = Reply([go_on, OK])
    client = sidecar.client()
    client.send(
        b"POST /pay HTTP/1.1\r\nHost: test\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n"
        b"X-Correlation-ID: orphan\r\n\r\n"
    )
    upstream.wait_request("/pay")
    client.reset()
    sidecar.process.signal(signal.SIGTERM)
    eventually(lambda: refuses(sidecar), "it drains")
    assert sidecar.process.exit_code is None
    go_on.set()
    assert sidecar.process.wait() == 0
    assert sidecar.access_line(correlation_id="orphan")["idempotency"] == "executed"


def test_what_does_not_end_in_time_is_cut_off(start_sidecar, upstream):
    """A tunnel, an event stream, a request that hangs: seen as broken, not as complete; exit code 0."""
    never = threading.Event()
    upstream.replies = {
        "/tunnel": Reply([b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n", never]),
        "/events": Reply(
            [
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
                never,
            ]
        ),
        "/hang": Reply([never]),
    }
    sidecar = start_sidecar(config_for(upstream.url, drain_timeout="500ms"))
    clients = [sidecar.client() for _ in range(3)]
    fields = (b"Connection: Upgrade\r\nUpgrade: raw\r\n", b"", b"")
    for client, path, field in zip(clients, upstream.replies, fields, strict=True):
        client.send(b"GET %b HTTP/1.1\r\nHost: test\r\n%b\r\n" % (path.encode(), field))
        upstream.wait_request(path)
    assert [client.head().status for client in clients[:2]] == [101, 200]
    began = time.monotonic()
    sidecar.process.signal(signal.SIGTERM)
    assert sidecar.process.wait() == 0
    assert 0.4 < time.monotonic() - began < 8
    never.set()
    with pytest.raises((Ended, Broken)):
        clients[2].response()
    with pytest.raises((Ended, Broken)):
        clients[1].reader.line()
    assert sidecar.wait_log(lambda line: line["event"] == "drain timeout", "it is told")["in_flight"] == 3
    cut = sidecar.access_lines(reason="drain_timeout")
    assert {line["path"]: line["status"] for line in cut} == {"/tunnel": 101, "/events": 200, "/hang": 499}
    for client in clients:
        client.close()


def test_a_second_signal_does_no_harm(sidecar, upstream):
    go_on = threading.Event()
    upstream.reply = Reply([go_on, OK])
    with sidecar.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        upstream.wait_request("/slow")
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: refuses(sidecar), "it drains")
        sidecar.process.signal(signal.SIGTERM)
        sidecar.process.signal(signal.SIGHUP)
        go_on.set()
        assert client.response().status == 200
    assert sidecar.process.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_another_configuration_opens_nothing_again(start_sidecar, upstream, workers):
    """A new file often comes together with the signal to stop."""
    unused = {"store": f"redis://127.0.0.1:{free_port()}", "idempotency": "off"}
    config = config_for(upstream.url, workers=workers, drain_timeout="10s", **unused)
    sidecar = start_sidecar(config)
    go_on = threading.Event()
    upstream.reply = Reply([go_on, OK])
    with sidecar.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        upstream.wait_request("/slow")
        sidecar.process.signal(signal.SIGTERM)
        eventually(lambda: refuses(sidecar), "it drains")
        sidecar.write(config | {"limits": {"headers": 50}})
        sidecar.process.signal(signal.SIGHUP)
        refused = sidecar.ask("POST", "/admin/reload", json={})  # after the signal's, if that did anything
        assert (refused.status_code, refused.json()["error"]["mistakes"]) == (
            422,
            ["the sidecar is draining: it ends under the configuration in force"],
        )
        assert refuses(sidecar)
        go_on.set()
        assert client.response().status == 200
    assert sidecar.process.wait() == 0
    assert "reloaded" not in [line["event"] for line in sidecar.logs()]


def test_the_port_is_free_for_the_next_one(sidecar, start_sidecar, upstream):
    """At once, though connections of the old one linger in the kernel."""
    with sidecar.client() as client:
        assert client.request("GET", "/").status == 200
        assert sidecar.stop() == 0
    second = start_sidecar(config_for(upstream.url), port=sidecar.port)
    with Client(second.address) as client:
        assert client.request("GET", "/").status == 200
