"""Every timeout of an upstream: what runs out, what the client is told, and what is left behind: nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack

import pytest

from tests.support.messages import Broken, Ended
from tests.support.pair import STEADY, Pair
from tests.support.raw import error_of
from tests.support.upstream import OK, Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("timeouts")

LONG = {"connect": "5s", "first_byte": "10s", "per_try": "none", "idle": "10s", "total": "20s"}
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"


def with_timeouts(**timeouts):
    return {**STEADY, "timeouts": {**LONG, **timeouts}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The kernel takes one connection more than the backlog, and then answers no more.
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        mute = stack.enter_context(socket.socket())
        mute.bind(("127.0.0.1", 0))
        mute.listen(100)
        connect = with_timeouts(connect="200ms")
        upstreams = {
            "no-connection": {**connect, "url": f"http://127.0.0.1:{full.getsockname()[1]}"},
            "no-handshake": {**connect, "url": f"https://127.0.0.1:{mute.getsockname()[1]}"},
            "first-byte": with_timeouts(first_byte="300ms"),
            "per-try": {
                **with_timeouts(per_try="250ms"),
                "retry": {"max_attempts": 2, "initial_delay": "1ms"},
            },
            "idle": with_timeouts(idle="300ms"),
            "total": with_timeouts(total="400ms"),
            "endless": with_timeouts(total="none"),
        }
        limits = {"body_idle": "100ms"}
        yield stack.enter_context(Pair(tmp_path_factory.mktemp("timeouts"), upstreams, limits=limits))


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


@pytest.fixture
def never():
    """What an upstream waits for that shall not go on before the test's end."""
    event = threading.Event()
    yield event
    event.set()


def assert_504(pair, response, reason):
    error = error_of(response)
    assert (response.status, error["code"]) == (504, "UPSTREAM_TIMEOUT")
    line = pair.sidecar.access_line(correlation_id=error["correlation_id"])
    assert (line["status"], line["reason"], line["cause"]) == (504, "upstream_timeout", reason)
    assert pair.request("GET", "/others-do-not-notice").status == 200


def assert_let_go(pair, path):
    """The connection whose answer nobody waits for any more is closed, not used again."""
    for request in pair.upstream.on(path):
        pair.upstream.connection_of(request).reader.keep = False
        connection = pair.upstream.connection_of(request)
        eventually(lambda it=connection: it.has_more() or it.ended.is_set(), "the connection's end")


@pytest.mark.parametrize("name", ["no-connection", "no-handshake"])
def test_connect(pair, name):
    assert_504(pair, pair.request("GET", f"/{name}"), "connect")
    assert pair.sidecar.metric("upstream_attempts_total", upstream=name, outcome="timeout") == 1


class TestFirstByte:
    def test_no_answer(self, pair, never):
        pair.upstream.replies["/first-byte"] = Reply([never, OK])
        assert_504(pair, pair.request("POST", "/first-byte", body=b"x"), "first_byte")
        assert_let_go(pair, "/first-byte")

    def test_half_a_head_is_no_answer(self, pair, never):
        pair.upstream.replies["/first-byte"] = Reply([b"HTTP/1.1 200 OK\r\nX-A: ", never, OK])
        assert_504(pair, pair.request("GET", "/first-byte"), "first_byte")

    def test_an_interim_answer_is_no_answer(self, pair, never):
        pair.upstream.replies["/first-byte"] = Reply([b"HTTP/1.1 103 Early Hints\r\n\r\n", never, OK])
        response = pair.request("GET", "/first-byte")
        assert [it.status for it in response.interim] == [103]
        assert_504(pair, response, "first_byte")

    def test_it_runs_from_the_end_of_the_request(self, pair):
        with pair.client() as client:
            client.send(b"POST /first-byte HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n")
            for octet in b"0123456789":
                threading.Event().wait(0.05)
                client.send(bytes([octet]))
            assert client.response("POST").status == 200

    def test_it_does_not_bound_the_body(self, pair):
        pieces = [threading.Event() for _ in range(5)]
        script = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
        for piece in pieces:
            script += [piece, b"x"]
        pair.upstream.replies["/first-byte"] = Reply(script)
        with pair.client() as client:
            client.send(b"GET /first-byte HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.head().status == 200
            for piece in pieces:
                threading.Event().wait(0.1)
                piece.set()
            assert b"".join(client.reader.pieces(5)) == b"xxxxx"


class TestPerTry:
    def test_each_try_has_its_own(self, pair, never):
        pair.upstream.replies["/per-try"] = Reply([never, OK])
        assert_504(pair, pair.request("GET", "/per-try"), "per_try")
        assert len(pair.upstream.on("/per-try")) == 2

    def test_the_next_one_may_succeed(self, pair, never):
        def answer_the_second(connection, request):
            connection.read_body(request)
            if len(pair.upstream.on("/per-try")) == 1:
                assert never.wait(30)
            connection.send(OK)

        pair.upstream.replies["/per-try"] = answer_the_second
        assert pair.request("GET", "/per-try").status == 200
        assert len(pair.upstream.on("/per-try")) == 2

    def test_it_ends_with_the_head(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/per-try"] = Reply([OK[:-1], go_on, OK[-1:]])
        with pair.client() as client:
            client.send(b"GET /per-try HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.head().status == 200
            threading.Event().wait(0.4)
            go_on.set()
            assert b"".join(client.reader.pieces(2)) == b"ok"


class TestIdle:
    @pytest.mark.parametrize(
        "head",
        [
            b"Content-Length: 10\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"\r\nhello",
        ],
        ids=["length", "chunked", "close"],
    )
    def test_a_body_that_stops_breaks_off(self, pair, never, head):
        """The answer has begun: the only honest way to say it is to break the connection."""
        pair.upstream.replies["/idle"] = Reply([b"HTTP/1.1 200 OK\r\n" + head, never])
        with pair.client() as client:
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: idle-%d\r\n\r\n" % len(head))
            with pytest.raises((Ended, Broken)):
                client.response()
        line = pair.sidecar.access_line(correlation_id=f"idle-{len(head)}")
        assert (line["status"], line["reason"], line["cause"]) == (200, "upstream_timeout", "idle")
        assert_let_go(pair, "/idle")

    def test_a_body_that_goes_on_may_take_longer(self, pair):
        pieces = [threading.Event() for _ in range(5)]
        script = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]
        for piece in pieces:
            script += [piece, b"x"]
        pair.upstream.replies["/idle"] = Reply(script)
        with pair.client() as client:
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\n\r\n")
            for piece in pieces:
                threading.Event().wait(0.15)
                piece.set()
            assert client.response().body == b"xxxxx"

    def test_a_slow_reader_is_not_the_upstreams_fault(self, pair):
        """It is held up itself: the time that the client takes does not count."""
        size = 40 << 20
        pair.upstream.replies["/idle"] = Reply(
            [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)]
        )
        with pair.client(receive_buffer=64 * 1024) as client:
            client.reader.keep = False
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.head().status == 200
            rest = size
            for _ in range(5):
                threading.Event().wait(0.2)
                rest -= sum(len(piece) for piece in client.reader.pieces(6 << 20))
            assert sum(len(piece) for piece in client.reader.pieces(rest)) == rest

    @pytest.mark.parametrize("key", [b"", b"Idempotency-Key: slow\r\n"], ids=["plain", "keyed"])
    def test_a_client_that_takes_nothing_is_given_up(self, pair, key):
        """Which says nothing of the upstream; and a keyed request goes on without its client."""
        size = 40 << 20
        pair.upstream.replies["/idle"] = Reply(
            [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)]
        )
        failed = pair.sidecar.metric("upstream_attempts_total", upstream="idle", outcome="timeout")
        name = f"stuck-{len(key)}"
        with pair.client(receive_buffer=64 * 1024) as client:
            client.send(b"POST /idle HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: %b\r\n" % name.encode())
            client.send(b"Content-Length: 0\r\n%b\r\n" % key)
            assert client.head("POST").status == 200
            line = pair.sidecar.access_line(correlation_id=name)
        if key:
            assert (line["status"], line["idempotency"], line["bytes_out"]) == (200, "executed", size)
            again = pair.request("POST", "/idle", "Idempotency-Key: slow", body=b"")
            assert error_of(again)["code"] == "RESPONSE_NOT_REPLAYABLE"
        else:
            assert (line["status"], line["reason"]) == (200, "client_slow")
        assert pair.sidecar.metric("upstream_attempts_total", upstream="idle", outcome="timeout") == failed

    def test_a_silent_event_stream_ends(self, pair, never):
        pair.upstream.replies["/idle"] = Reply([SSE + b"5\r\nevent\r\n", never])
        with pair.client() as client:
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\n\r\n")
            with pytest.raises((Ended, Broken)):
                client.response()

    def test_a_silent_tunnel_ends_on_both_sides(self, pair, never):
        pair.upstream.replies["/idle"] = Reply([SWITCH, never])
        with pair.client() as client:
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            assert client.head().status == 101
            client.end()
        assert_let_go(pair, "/idle")

    def test_one_side_that_speaks_keeps_a_tunnel_open(self, pair):
        def swallow(connection, request):
            connection.send(SWITCH)
            assert b"".join(connection.reader.pieces(5)) == b"xxxxx"
            connection.send(b"bye")
            connection.close()

        pair.upstream.replies["/idle"] = swallow
        with pair.client() as client:
            client.send(b"GET /idle HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            assert client.head().status == 101
            for _ in range(5):
                threading.Event().wait(0.15)
                client.send(b"x")
            assert b"".join(client.reader.rest()) == b"bye"

    def test_an_upload_that_the_upstream_does_not_take(self, pair, never):
        """It is the upstream that is slow, whatever `limits.body_idle` says of clients."""
        pair.upstream.replies["/idle"] = Reply([never], early=True)
        size = 40 << 20
        with pair.client() as client:
            thread = threading.Thread(
                target=client.send,
                args=(b"POST /idle HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)),
            )
            thread.start()
            response = client.response("POST")
            assert_504(pair, response, "idle")
        thread.join()

    def test_an_upload_that_the_upstream_takes_slowly(self, pair):
        """More than the buffers hold, and pauses that are longer than `limits.body_idle`."""
        size = 40 << 20

        def sip(connection, request):
            connection.reader.keep = False
            rest = size
            for _ in range(6):
                threading.Event().wait(0.2)
                rest -= sum(len(piece) for piece in connection.reader.pieces(4 << 20))
            assert sum(len(piece) for piece in connection.reader.pieces(rest)) == rest
            connection.send(OK)

        pair.upstream.replies["/idle"] = sip
        with pair.client() as client:
            client.send(
                b"POST /idle HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size, bytes(size)
            )
            assert client.response("POST").status == 200


class TestTotal:
    def test_it_bounds_the_answer(self, pair, never):
        pair.upstream.replies["/total"] = Reply([never, OK])
        assert_504(pair, pair.request("GET", "/total"), "total")

    def test_it_bounds_the_body_too(self, pair):
        def drip(connection, request):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                threading.Event().wait(0.02)
                connection.send(b"x")

        pair.upstream.replies["/total"] = drip
        with pair.client() as client:
            client.send(b"GET /total HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: drip\r\n\r\n")
            with pytest.raises((Ended, Broken)):
                client.response()
        assert pair.sidecar.access_line(correlation_id="drip")["cause"] == "total"

    def test_it_does_not_bound_event_streams(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/total"] = Reply([SSE + b"5\r\nfirst\r\n", go_on, b"4\r\nlast\r\n0\r\n\r\n"])
        with pair.client() as client:
            client.send(b"GET /total HTTP/1.1\r\nHost: test\r\n\r\n")
            head = client.head()
            threading.Event().wait(0.6)
            go_on.set()
            assert head.status == 200
            assert b"4\r\nlast\r\n0\r\n\r\n" in b"".join(client.reader.pieces(24))

    def test_it_does_not_bound_tunnels(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/total"] = Reply([SWITCH, go_on, b"still here"])
        with pair.client() as client:
            client.send(b"GET /total HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            assert client.head().status == 101
            threading.Event().wait(0.6)
            go_on.set()
            assert b"".join(client.reader.pieces(10)) == b"still here"


class TestTheUpstreamIsTold:
    def test_what_is_left(self, pair):
        assert pair.request("GET", "/total").status == 200
        assert 300 <= int(pair.upstream.on("/total")[0]["x-request-timeout-ms"]) <= 400

    def test_less_with_every_try(self, pair, never):
        pair.upstream.replies["/per-try"] = Reply([never, OK])
        pair.request("GET", "/per-try")
        first, second = (int(it["x-request-timeout-ms"]) for it in pair.upstream.on("/per-try"))
        assert 19_000 < first <= 20_000
        assert 19_000 < second <= first - 250

    def test_a_clients_own_word_is_replaced(self, pair):
        pair.request("GET", "/total", "X-Request-Timeout-Ms: 999999")
        assert int(pair.upstream.on("/total")[0]["x-request-timeout-ms"]) <= 400

    def test_nothing_where_there_is_no_limit(self, pair):
        pair.request("GET", "/endless", "X-Request-Timeout-Ms: 999999")
        assert "x-request-timeout-ms" not in pair.upstream.on("/endless")[0]
