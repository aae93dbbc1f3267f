"""Active health checks: a host that fails them gets no traffic while another is well."""

from __future__ import annotations

import pytest

from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, Upstream, answer, chunked_answer
from tests.support.waiting import eventually

HEALTH = {"path": "/health?deep=1", "interval": "100ms", "timeout": "500ms"}
PATH = "/health"


def hosts_of(sidecar):
    return sidecar.get("/admin/upstreams/app").json()["hosts"]


def healthy(sidecar):
    return [host["healthy"] for host in hosts_of(sidecar)]


@pytest.fixture
def other():
    with Upstream() as server:
        yield server


@pytest.fixture
def sidecar(start_sidecar, upstream, other):
    config = config_for(upstream.url)
    config["upstreams"]["app"] = {"urls": [upstream.url, other.url], "health": HEALTH}
    return start_sidecar(config)


def test_a_check_is_a_get_on_a_connection_of_its_own(sidecar, upstream):
    check = upstream.wait_request(PATH)
    assert (check.method, check.target) == (b"GET", b"/health?deep=1")
    assert check.values("host") == [upstream.url.removeprefix("http://").encode()]
    assert check.values("connection") == [b"close"]
    assert check.values("user-agent")[0].startswith(b"sidecar/")
    second = upstream.wait_request(PATH, 2)
    assert upstream.connection_of(check) is not upstream.connection_of(second)
    assert upstream.connection_of(check).wait_end()
    assert hosts_of(sidecar)[0]["connections"]["open"] == 0
    assert sidecar.access_lines() == []


def test_a_host_that_fails_gets_no_traffic_until_it_is_well_again(sidecar, upstream, other):
    upstream.replies[PATH] = Reply((answer(status="503 Unwell"),))
    eventually(lambda: healthy(sidecar) == [False, True], "one host is out")
    with sidecar.client() as client:
        assert [client.request("GET", f"/{number}").status for number in range(6)] == [200] * 6
    assert [request for request in upstream.requests if request.path != PATH.encode()] == []
    assert len([request for request in other.requests if request.path != PATH.encode()]) == 6
    line = sidecar.wait_log(lambda line: line["event"] == "health check", "the change is told")
    assert (line["upstream"], line["healthy"], line["problem"]) == ("app", False, "answered 503")
    del upstream.replies[PATH]
    eventually(lambda: healthy(sidecar) == [True, True], "it is back")
    with sidecar.client() as client:
        for number in range(4):
            client.request("GET", f"/again{number}")
    assert [request for request in upstream.requests if b"again" in request.path]


def test_the_last_host_is_asked_whatever_its_checks_say(sidecar, upstream, other):
    for server in (upstream, other):
        server.replies[PATH] = Reply((answer(status="500 Unwell"),))
    eventually(lambda: healthy(sidecar) == [False, False], "both are out")
    with sidecar.client() as client:
        assert client.request("GET", "/").status == 200


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ((Do.CLOSE,), "without an answer"),
        ((Do.RESET,), "without an answer"),
        ((b"SSH-2.0-OpenSSH\r\n",), "not HTTP"),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",), "answered 101"),
        ((answer(status="404 Not Found"),), "answered 404"),
        ((b"HTTP/1.1 2",), "no answer within 0.5 s"),
    ],
)
def test_what_is_no_good_answer_is_told(sidecar, upstream, script, problem):
    upstream.replies[PATH] = Reply(script)
    line = sidecar.wait_log(lambda line: line["event"] == "health check", "the change is told")
    assert problem in line["problem"]


def test_2xx_and_3xx_are_well(sidecar, upstream):
    for script in (
        (answer(status="302 Found"),),
        (b"HTTP/1.1 204 No Content\r\n\r\n",),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked_answer(b"well"),),
        (b"HTTP/1.1 200 OK\r\n\r\n",),
    ):
        upstream.forget()
        upstream.replies[PATH] = Reply(script)
        upstream.wait_request(PATH, 5)
        assert healthy(sidecar) == [True, True]


def test_a_host_that_is_not_there_is_out(start_sidecar, upstream):
    config = config_for(upstream.url)
    config["upstreams"]["app"] = {"urls": [f"http://127.0.0.1:{free_port()}", upstream.url], "health": HEALTH}
    sidecar = start_sidecar(config)
    eventually(lambda: healthy(sidecar) == [False, True], "it is out")


def test_tls_and_unix_sockets_are_checked_too(start_sidecar, authority, tmp_path):
    with Upstream(tls=authority.server_context()) as tls, Upstream(unix=tmp_path / "app.sock") as unix:
        config = config_for(unix.url)
        config["upstreams"]["app"] |= {"health": HEALTH}
        config["upstreams"]["tls"] = {"url": tls.url, "tls": {"ca": str(authority.ca)}, "health": HEALTH}
        config["routes"].insert(0, {"name": "tls", "match": {"prefix": "/tls"}, "upstream": "tls"})
        sidecar = start_sidecar(config)
        for server in (tls, unix):
            server.wait_request(PATH, 4)
        hosts = [host for it in sidecar.get("/admin/upstreams").json()["items"] for host in it["hosts"]]
        assert [host["healthy"] for host in hosts] == [True, True]


def test_a_reload_changes_what_is_checked(sidecar, upstream, other):
    upstream.replies[PATH] = Reply((answer(status="503 Unwell"),))
    eventually(lambda: healthy(sidecar) == [False, True], "one host is out")
    config = config_for(upstream.url)
    config["upstreams"]["app"] = {"urls": [upstream.url, other.url], "health": {**HEALTH, "path": "/new"}}
    upstream.replies["/new"] = Reply((answer(status="503 Unwell"),))
    sidecar.write(config)
    sidecar.reload()
    assert healthy(sidecar) == [False, True]  # what is known of a host that stays is kept
    upstream.wait_request("/new", 2)
    del upstream.replies["/new"]
    eventually(lambda: healthy(sidecar) == [True, True], "it passes the new check")
    seen = len(upstream.on(PATH))
    upstream.wait_request("/new", len(upstream.on("/new")) + 3)
    assert len(upstream.on(PATH)) == seen
    del config["upstreams"]["app"]["health"]
    sidecar.write(config)
    sidecar.reload()
    upstream.forget()
    with sidecar.client() as client:
        for number in range(4):
            client.request("GET", f"/{number}")
    assert {request.path for request in upstream.requests} <= {b"/0", b"/1", b"/2", b"/3"}
    assert healthy(sidecar) == [True, True]
