"""What becomes of a key when its exchange does not end well, through the running sidecar with ``memory://``."""

from __future__ import annotations

import itertools
import threading

import pytest

from tests.support.messages import Broken, Ended
from tests.support.pair import STEADY, Pair
from tests.support.ports import free_port
from tests.support.raw import error_of, is_replay, refusal
from tests.support.upstream import OK, Do, Reply, Upstream, answer, chunked_answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("idempotency outcomes")

MIB = 1 << 20
UNKNOWN = "IDEMPOTENCY_OUTCOME_UNKNOWN"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 2_000_000
NO_UPSTREAM = free_port()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    quick = {**STEADY, "timeouts": {"first_byte": "500ms", "total": "1500ms"}}
    upstreams = {
        "quick": quick,
        "fragile": {**quick, "breaker": {"failure_threshold": 1, "reset_timeout": "1m"}},
        "narrow": {**quick, "bulkhead": {"max_concurrent": 1, "max_queue": 0}},
        "absent": {**STEADY, "url": f"http://127.0.0.1:{NO_UPSTREAM}"},
    }
    routes = [
        {
            "name": "again",
            "match": {"prefix": "/again"},
            "upstream": "quick",
            "idempotency": {"on_unknown": "reexecute"},
        },
        *({"name": name, "match": {"prefix": f"/{name}"}, "upstream": name} for name in upstreams),
        {"name": "default", "match": {"prefix": "/"}, "upstream": "app"},
    ]
    limits = {"body_idle": "400ms"}
    with Pair(tmp_path_factory.mktemp("outcomes"), upstreams, routes, limits=limits) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


numbers = itertools.count()


@pytest.fixture
def key():
    return f"Idempotency-Key: outcome-{next(numbers)}"


def results(pair, route):
    names = ("executed", "released", "unknown", "unprotected", "not_replayable", "replayed")
    return {it: pair.sidecar.metric("idempotency_requests_total", route=route, result=it) for it in names}


def newest_record(pair, route):
    page = pair.sidecar.get(f"/admin/idempotency?route={route}&limit=1000")
    return max(page.json()["items"], key=lambda record: record["created_at"])


# By why the outcome is unknown: what the upstream does, and the plain error.
FAILURES = {
    "timeout": (list, "UPSTREAM_TIMEOUT"),
    "reset": (lambda: [Do.RESET], "UPSTREAM_UNREACHABLE"),
    "reset, in order": (lambda: [Do.CLOSE], "UPSTREAM_UNREACHABLE"),
    "truncated": (lambda: [OK[:-1], Do.CLOSE], "UPSTREAM_UNREACHABLE"),
    "truncated, chunked": (lambda: [chunked_answer(b"abc")[:-2], Do.CLOSE], "UPSTREAM_UNREACHABLE"),
    "protocol": (lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"], "UPSTREAM_PROTOCOL_ERROR"),
}


class TestUnknown:
    @pytest.mark.parametrize("failure", FAILURES)
    def test_whose_it_was_gets_504_and_all_others_409(self, pair, key, failure):
        script, _ = FAILURES[failure]
        pair.upstream.reply = Reply(script())
        before = results(pair, "quick")
        assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (504, UNKNOWN)
        for _ in range(2):
            assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (409, UNKNOWN)
        assert refusal(pair.request("POST", "/quick", key, body=b"b")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert len(pair.upstream.requests) == 1
        assert results(pair, "quick")["unknown"] == before["unknown"] + 3
        record = newest_record(pair, "quick")
        assert (record["state"], record["unknown_because"]) == ("UNKNOWN", failure.partition(",")[0])

    @pytest.mark.parametrize("failure", FAILURES)
    def test_where_keys_are_executed_again_it_is_the_plain_error(self, pair, key, failure):
        script, plain = FAILURES[failure]
        pair.upstream.reply = Reply(script())
        assert error_of(pair.request("POST", "/again", key, body=b"a"))["code"] == plain
        pair.upstream.reply = Reply([OK])
        second, third = (pair.request("POST", "/again", key, body=b"a") for _ in range(2))
        assert (second.status, is_replay(second)) == (200, False)
        assert is_replay(third)

    @pytest.mark.parametrize("end", [Do.CLOSE, Do.RESET])
    def test_a_large_answer_that_breaks_off(self, pair, key, end):
        pair.upstream.reply = Reply([LARGE, end])
        with pytest.raises((Broken, Ended)):
            pair.request("POST", "/quick", key, body=b"a")
        assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (409, UNKNOWN)
        assert len(pair.upstream.requests) == 1


class TestAnswersThatNeverEnd:
    @staticmethod
    def drip(connection, request, pieces):
        connection.read_body(request)
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            try:
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            except OSError:
                return
            threading.Event().wait(0.05)

    def test_small_ones_run_into_the_deadline(self, pair, key):
        pair.upstream.reply = lambda *call: self.drip(*call, itertools.repeat(b"x"))
        assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (504, UNKNOWN)
        assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (409, UNKNOWN)

    def test_large_ones_break_off(self, pair, key):
        pair.upstream.reply = lambda *call: self.drip(*call, itertools.repeat(b"x" * 200_000))
        with pytest.raises((Broken, Ended)):
            pair.request("POST", "/quick", key, body=b"a")
        assert refusal(pair.request("POST", "/quick", key, body=b"a")) == (409, UNKNOWN)

    def test_nor_do_they_outlive_it_when_the_client_has_gone(self, pair, key):
        pair.upstream.reply = lambda *call: self.drip(*call, itertools.repeat(b"x"))
        with pair.client() as client:
            client.send(f"POST /quick HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: 1\r\n\r\na".encode())
            pair.upstream.wait_request("/quick")
            client.reset()
        eventually(
            lambda: refusal(pair.request("POST", "/quick", key, body=b"a")) == (409, UNKNOWN),
            "it has ended",
        )


class TestNothingWasSent:
    def test_connection_refused(self, pair, key):
        before = results(pair, "absent")
        assert refusal(pair.request("POST", "/absent", key, body=b"a")) == (502, "UPSTREAM_UNREACHABLE")
        assert results(pair, "absent")["released"] == before["released"] + 1
        with Upstream(port=NO_UPSTREAM):
            assert pair.request("POST", "/absent", key, body=b"another").status == 200

    def test_breaker_open(self, pair, key):
        pair.upstream.reply = Reply([Do.RESET])
        pair.request("POST", "/fragile", body=b"a")
        assert refusal(pair.request("POST", "/fragile", key, body=b"a")) == (503, "CIRCUIT_OPEN")
        close = {"mode": "forced_closed", "for": "1m"}
        closed = pair.sidecar.ask("PUT", "/admin/upstreams/fragile/breaker", json=close)
        assert closed.status_code == 200
        pair.upstream.reply = Reply([OK])
        assert pair.request("POST", "/fragile", key, body=b"another").status == 200

    def test_bulkhead_full(self, pair, key):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, OK])
        with pair.client() as client:
            client.send(b"POST /narrow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            pair.upstream.wait_request("/narrow")
            assert refusal(pair.request("POST", "/narrow", key, body=b"a")) == (503, "BULKHEAD_FULL")
            go_on.set()
            assert client.response("POST").status == 200
        assert pair.request("POST", "/narrow", key, body=b"another").status == 200


class TestTheClientGoes:
    @pytest.mark.parametrize("size", [2, 2 * MIB])
    def test_nothing_is_cancelled(self, pair, key, size):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, answer(b"x" * size)])
        with pair.client() as client:
            client.send(f"POST /gone HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: 1\r\n\r\na".encode())
            pair.upstream.wait_request("/gone")
            client.reset()
        assert refusal(pair.request("POST", "/gone", key, body=b"a")) == (
            409,
            "DUPLICATE_REQUEST_IN_PROGRESS",
        )
        go_on.set()
        eventually(lambda: newest_record(pair, "default")["state"] == "COMPLETED", "its answer is kept")
        again = pair.request("POST", "/gone", key, body=b"a")
        assert is_replay(again) if size == 2 else refusal(again) == (409, "RESPONSE_NOT_REPLAYABLE")
        assert len(pair.upstream.requests) == 1


class TestEventStreams:
    STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"

    def test_they_are_marked_and_execute_again(self, pair, key):
        pair.upstream.reply = Reply([self.STREAM, b"data: 2\n\n", Do.CLOSE])
        before = results(pair, "default")
        for _ in range(2):
            response = pair.request("POST", "/events", key, body=b"a")
            assert response.body == b"data: 1\n\ndata: 2\n\n"
            assert response.values("x-idempotency-status") == [b"unprotected"]
        assert len(pair.upstream.requests) == 2
        now = results(pair, "default")
        assert now == {**before, "unprotected": before["unprotected"] + 2}

    def test_one_whose_client_goes_is_let_go(self, pair, key):
        connections = []

        def stream(connection, request):
            connection.read_body(request)
            connections.append(connection)
            connection.send(self.STREAM)

        pair.upstream.reply = stream
        lines = len(pair.sidecar.access_lines(path="/events-gone"))
        with pair.client() as client:
            client.send(
                f"POST /events-gone HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            assert client.head("POST")["x-idempotency-status"] == b"unprotected"
            client.reset()
        assert connections[0].wait_end() in ("closed", "reset")
        line = eventually(lambda: pair.sidecar.access_lines(path="/events-gone")[lines:], "its access line")[
            0
        ]
        assert (line["idempotency"], line["reason"]) == ("unprotected", "client_gone")

    def test_upgrades_say_so_too(self, pair, key):
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        pair.upstream.reply = Reply([switch, Do.CLOSE])
        fields = (key, "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 0")
        for _ in range(2):
            with pair.client() as client:
                client.send("\r\n".join(["POST /up HTTP/1.1", "Host: a", *fields, "", ""]).encode())
                head = client.any_head("POST")
                assert (head.status, head["x-idempotency-status"]) == (101, b"unprotected")
        assert len(pair.upstream.requests) == 2
