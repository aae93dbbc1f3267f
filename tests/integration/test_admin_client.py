"""The command line's client of the admin port: every way to name one, and whatever may answer there."""

from __future__ import annotations

import pytest
import typer

from sidecar.cli.admin_client import AdminClient, RefusedError, UnreachableError, failures_told
from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, answer, chunked_answer


def status(url, token=None):
    return AdminClient(url, token).call("GET", "admin", "status")


def test_a_port_is_named_by_its_url_or_its_address(sidecar):
    address = f"127.0.0.1:{sidecar.admin_port}"
    for url in (f"http://{address}", f"http://{address}/", address, f"localhost:{sidecar.admin_port}"):
        assert status(url)["service"] == "sidecar"


def test_a_unix_socket_is_named_by_its_path(start_sidecar, upstream, tmp_path):
    path = tmp_path / "admin.sock"
    scraped = free_port()
    config = config_for(
        upstream.url, admin={"bind": f"unix:{path}"}, metrics={"bind": f"127.0.0.1:{scraped}"}
    )
    sidecar = start_sidecar(config, expect_ready=False)
    sidecar.admin_port = scraped
    sidecar.wait_ready()
    client = AdminClient(f"unix:{path}")
    client.call("PUT", "admin", "log-level", content={"level": "debug", "reason": "by socket"})
    line = sidecar.wait_log(lambda line: line["event"] == "admin change", "the change is told")
    assert (line["who"], line["peer"]) == ("unix", "unix")


def test_a_token_is_shown(start_sidecar, upstream):
    port = free_port()
    config = config_for(upstream.url, admin={"bind": f"127.0.0.1:{port}", "token": "opensesame"})
    sidecar = start_sidecar(config, expect_ready=False)
    sidecar.admin_port = port
    sidecar.wait_ready()
    assert status(sidecar.admin, "opensesame")["version"]
    with pytest.raises(RefusedError) as caught:
        status(sidecar.admin)
    assert caught.value.status == 401


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "", "http://127.0.0.1:port", "http://[::1"])
def test_what_is_no_address_is_said_so(url):
    with pytest.raises(typer.BadParameter, match="no admin port"):
        AdminClient(url)


def test_segments_are_escaped(upstream):
    upstream.reply = Reply((answer(b"{}"),))
    AdminClient(upstream.url).call("GET", "admin", "dlq", "a/b?c", query={"cursor": "1&2", "limit": None})
    (request,) = upstream.requests
    assert request.target == b"/admin/dlq/a%2Fb%3Fc?cursor=1%262"


@pytest.mark.parametrize(
    "script",
    [
        (answer(b"<html>"),),
        (Do.CLOSE,),
        (Do.RESET,),
        (b"SSH-2.0\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Do.CLOSE),
    ],
)
def test_what_is_no_sidecar_is_said_so(upstream, script):
    upstream.reply = Reply(script)
    with pytest.raises(UnreachableError, match=upstream.url):
        status(upstream.url)


def test_an_error_that_is_none_of_a_sidecars_keeps_its_status(upstream):
    for body in (b"<html>", b"[]", b'{"error": "no"}'):
        upstream.reply = Reply((answer(body, status="502 Bad Gateway"),))
        with pytest.raises(RefusedError, match="answered 502"):
            status(upstream.url)


def test_events_come_one_by_one(upstream):
    upstream.reply = Reply(
        (chunked_answer(b'data: {"n": 1}\n\nda', b'ta: {"n": 2}\n\nevent: end\ndata: 3\n\n'),)
    )
    assert list(AdminClient(upstream.url).events("POST", "x")) == [{"n": 1}, {"n": 2}, 3]
    assert upstream.requests[0].values("accept") == [b"text/event-stream"]


def test_failures_end_the_command_with_their_code(sidecar, capsys):
    for url, code in ((sidecar.admin, 1), (f"http://127.0.0.1:{free_port()}", 2)):
        with pytest.raises(SystemExit) as caught, failures_told():
            AdminClient(url).call("GET", "admin", "upstreams", "nothing")
        assert caught.value.code == code
    assert "refused (404): there is no upstream 'nothing'" in capsys.readouterr().err


def test_mistakes_are_printed_one_a_line(sidecar, upstream, capsys):
    sidecar.write(config_for(upstream.url, limmits={}))
    with pytest.raises(SystemExit), failures_told():
        AdminClient(sidecar.admin).call("POST", "admin", "reload", content={})
    assert "did you mean limits?" in capsys.readouterr().err
