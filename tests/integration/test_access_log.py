"""One line a request: what it says, what it never says, and that nothing breaks it."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.pair import Pair
from tests.support.raw import error_of
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply, answer, chunked_answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("access log")

FIELDS = {
    *("time", "level", "event", "service", "correlation_id", "trace_id", "method", "path", "route", "status"),
    *(
        "bytes_in",
        "bytes_out",
        "duration_ms",
        "attempts",
        "upstream_host",
        "idempotency",
        "breaker",
        "reason",
        "cause",
    ),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    upstreams = {"retried": {"retry": {"initial_delay": "1ms"}}}
    with Pair(tmp_path_factory.mktemp("log"), upstreams, service="shop") as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


def line_of(pair, response):
    return pair.sidecar.access_line(correlation_id=response["x-correlation-id"].decode())


def test_a_line_has_every_field(pair):
    pair.upstream.reply = Reply([answer(b"0123456789")])
    before = datetime.now(UTC)
    line = line_of(pair, pair.request("POST", "/shop?secret=1", body=b"hello"))
    assert set(line) == FIELDS
    at = datetime.fromisoformat(line["time"])
    assert before - timedelta(seconds=1) <= at <= datetime.now(UTC)
    assert (line["level"], line["event"], line["service"]) == ("info", "access", "shop")
    assert (line["method"], line["path"], line["route"], line["status"]) == ("POST", "/shop", "default", 200)
    assert (line["bytes_in"], line["bytes_out"], line["attempts"]) == (5, 10, 1)
    assert 0 < line["duration_ms"] < 10_000
    assert line["upstream_host"] == f"127.0.0.1:{pair.upstream.port}"
    assert (line["idempotency"], line["breaker"], line["reason"]) == (None, "closed", None)
    assert line["trace_id"] in pair.upstream.requests[0]["traceparent"].decode()


def test_octets_are_counted_without_their_framing(pair):
    pair.upstream.reply = Reply([chunked_answer(b"x" * 1000, b"y" * 234)])
    with pair.client() as client:
        client.send(
            b"PUT /chunks HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        )
        line = line_of(pair, client.response("PUT"))
    assert (line["bytes_in"], line["bytes_out"]) == (11, 1234)


def test_attempts_are_counted(pair):
    outcomes = iter([Do.CLOSE, Do.RESET, None])

    def flaky(connection, request):
        step = next(outcomes)
        Reply([step] if step else [answer()])(connection, request)

    pair.upstream.replies["/retried"] = flaky
    line = line_of(pair, pair.request("GET", "/retried"))
    assert (line["status"], line["attempts"], line["reason"]) == (200, 3, None)


def test_a_sidecar_made_answer_says_why(pair):
    pair.upstream.reply = Reply([Do.CLOSE])
    response = pair.request("GET", "/dead")
    line = line_of(pair, response)
    assert (line["status"], line["reason"], line["cause"]) == (502, "upstream_unreachable", "reset")
    assert line["bytes_out"] == len(response.body)


def test_an_upstreams_own_error_has_no_reason_of_ours(pair):
    pair.upstream.reply = Reply([answer(b"", status="503 Service Unavailable")])
    line = line_of(pair, pair.request("GET", "/busy"))
    assert (line["status"], line["reason"]) == (503, None)


def test_a_client_that_went_away_is_logged_as_such(pair):
    never = threading.Event()
    pair.upstream.reply = Reply([never])
    client = pair.client()
    client.send(b"GET /gone HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: gone-1\r\n\r\n")
    pair.upstream.wait_request("/gone")
    client.reset()
    line = pair.sidecar.access_line(correlation_id="gone-1")
    never.set()
    assert (line["status"], line["reason"]) == (499, "client_gone")


def lines_so_far(pair):
    """How many lines have been written, those of the start included, which may come a moment after it."""
    correlation_id = uuid.uuid4().hex
    pair.request("GET", "/before", f"X-Correlation-ID: {correlation_id}")
    pair.sidecar.access_line(correlation_id=correlation_id)
    return len(pair.sidecar.process.stdout)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: test\r\nBad\x00Name: 1\r\n\r\n", 400),
    ],
)
def test_what_is_refused_leaves_one_line_that_says_why(pair, request_bytes, status):
    start = lines_so_far(pair)
    with pair.client() as client:
        client.send(request_bytes)
        response = client.response()
        assert client.end() == "closed"
    error = error_of(response)
    assert response.status == status
    pair.request("GET", "/afterwards")
    pair.sidecar.wait_log(lambda line: line.get("path") == "/afterwards", "the next request", start=start)
    (line,) = [it for it in pair.sidecar.logs(start) if it.get("path") != "/afterwards"]
    assert (line["correlation_id"], line["status"]) == (error["correlation_id"], status)
    assert line["reason"] == error["code"].lower()
    assert line["cause"]
    assert pair.upstream.on("/") == []


def test_a_connection_without_a_request_leaves_no_line(pair):
    start = lines_so_far(pair)
    pair.client().close()
    pair.client().reset()
    pair.request("GET", "/afterwards-2")
    pair.sidecar.wait_log(lambda line: line.get("path") == "/afterwards-2", "the next request", start=start)
    assert len(pair.sidecar.logs(start)) == 1


def test_nothing_that_strangers_write_breaks_a_line(pair):
    """Quotes, backslashes, terminal escapes, and what JSON and Unicode take for line ends."""
    targets = [
        '/"}{"event":"forged"}',
        "/\\u000a\\n\\",
        "/%0a%0dGET",
        "/%1b[31m",
        "/%e2%80%a8",
        "/" + "x" * 5000,
    ]
    for number, target in enumerate(targets):
        response = pair.request("GET", target, f"X-Correlation-ID: hostile-{number}", "User-Agent: \x85\xa0")
        assert response.status == 200
        line = line_of(pair, response)
        assert line["path"] == target or target.startswith(line["path"][:1000])
    for text in pair.sidecar.process.stdout.all():
        assert json.loads(text)
        assert text.isascii()
        assert text.isprintable()


@pytest.mark.parametrize("method", ["X" * 30, "$%&", "get"])
def test_a_strange_method_is_quoted(pair, method):
    assert line_of(pair, pair.request(method, "/"))["method"] == method


def test_no_secret_is_logged(pair):
    secrets = ["s3cr3t-key-1", "s3cr3t-token-2", "s3cr3t-query-3", "s3cr3t-cookie-4", "s3cr3t-body-5"]
    response = pair.request(
        "POST",
        f"/login?password={secrets[2]}",
        f"Idempotency-Key: {secrets[0]}",
        f"Authorization: Bearer {secrets[1]}",
        f"Cookie: session={secrets[3]}",
        body=secrets[4].encode(),
    )
    line_of(pair, response)
    assert [it for it in secrets if it in pair.sidecar.process.output()] == []


def test_lines_do_not_wait_for_more(pair):
    """A line is there soon after its request, without another one behind it."""
    response = pair.request("GET", "/soon")
    eventually(
        lambda: pair.sidecar.access_lines(correlation_id=response["x-correlation-id"].decode()),
        "the line",
        within=2,
    )


def test_a_log_that_nobody_reads_holds_up_nobody(start_sidecar, upstream):
    """The pipe is full: lines are dropped and counted, requests are answered."""
    sidecar = start_sidecar(config_for(upstream.url))
    go_on_reading = sidecar.process.stdout.stop_reading()
    request = b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % (b"x" * 1500)

    def drops():
        with sidecar.client() as client:
            for _ in range(30):
                client.send(request * 100)
                while client.reader.raw.count(b"HTTP/1.1 200 OK\r\n") < 100:
                    assert client.reader.more()
                client.reader.raw.clear()
        return sidecar.metric("log_lines_dropped_total") > 0

    try:
        eventually(drops, "lines are dropped", within=30)
    finally:
        go_on_reading()
    assert sidecar.stop() == 0


def test_the_console_format_is_for_people_and_as_safe(start_sidecar, upstream):
    sidecar = start_sidecar(None, arguments=["--upstream", upstream.url, "--log-format", "console"])
    targets = {
        "/shop?secret=1": "GET /shop 200",
        '/"}{"event":"forged"}': 'GET "/\\"}{\\"event\\":\\"forged\\"}" 200',
        "/%1b[31m": "GET /%1b[31m 200",
    }
    with sidecar.client() as client:
        for number, target in enumerate(targets):
            agent = "User-Agent: \x85\xa0\x9b31m"
            client.request("GET", target, f"X-Correlation-ID: console-{number}", agent)
    assert sidecar.stop() == 0
    lines = sidecar.process.stdout.all()
    for number, shown in enumerate(targets.values()):
        (line,) = [line for line in lines if f"correlation_id=console-{number}" in line]
        assert f" {shown} " in line
        assert "secret" not in line
        assert line.isprintable()
