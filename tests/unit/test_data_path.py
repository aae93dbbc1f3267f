"""Requests on their way through the whole sidecar, and peers that vanish between any two octets of it."""

from __future__ import annotations

import gc
import json

import pytest

from sidecar.errors import SidecarError
from sidecar.internal import request_to
from sidecar.spans import Purpose
from tests.support.data_path import DataPath
from tests.unit.wire.messages import lines

STEADY = {
    "breaker": {"failure_threshold": 1_000_000, "minimum_calls": 1_000_000},
    "retry": {"max_attempts": 1},
    "timeouts": {"connect": "1s", "first_byte": "2s", "idle": "5s", "total": "20s"},
}
GET = lines(b"GET / HTTP/1.1", b"Host: test")
POST = lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 5") + b"hello"
CHUNKS = (
    lines(b"POST / HTTP/1.1", b"Host: test", b"Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n"
)
OK = lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
CHUNKED_OK = lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n"
UNTIL_CLOSE = lines(b"HTTP/1.1 200 OK") + b"ok"


@pytest.fixture
def path(loop):
    return DataPath(loop, upstream=STEADY)


def status(received: bytes) -> int:
    return int(received[9:12])


def code(received: bytes) -> str:
    return json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"]


class TestExchanges:
    @pytest.mark.parametrize("sent", [GET, POST, CHUNKS])
    def test_there_and_back_and_again_on_the_same_connections(self, path, sent):
        client = path.client()
        for count in range(1, 4):
            client.send(sent)
            assert path.host.take().endswith(sent.partition(b"\r\n\r\n")[2])
            path.host.send(OK)
            assert client.take().endswith(b"ok")
            path.assert_nothing_is_held(count)
        assert len(path.hosts) == 1

    @pytest.mark.parametrize("key", [b"", b"Idempotency-Key: k-%d\r\n"], ids=["unkeyed", "keyed"])
    def test_leave_nothing_to_the_garbage_collector(self, path, key):
        """Its rounds are long, and no request may pay for them."""
        client = path.client()

        def exchange(number):
            field = key % number if key else b""
            client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n%b\r\nhello" % field)
            path.host.take()
            path.host.send(OK)
            assert client.take().endswith(b"ok")

        for number in range(10):
            exchange(number)
        gc.collect()
        gc.disable()
        try:
            for number in range(10, 60):
                exchange(number)
            assert gc.collect() < 50
        finally:
            gc.enable()

    @pytest.mark.parametrize("key", [b"", b"Idempotency-Key: k-%d\r\n"], ids=["unkeyed", "keyed"])
    def test_nor_do_those_that_fail(self, loop, path, key):
        def exchange(number):
            client = path.client()
            field = key % number if key else b""
            client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n%b\r\n" % field)
            loop.advance(2.1)
            assert status(client.take()) == 504
            client.vanish()
            client._protocol = path.host._protocol = None
            loop.advance(1.1)

        exchange(0)
        gc.collect()
        gc.disable()
        try:
            for number in range(1, 51):
                exchange(number)
            assert gc.collect() < 50
        finally:
            gc.enable()

    @pytest.mark.parametrize("end", ["vanish", "finish"])
    @pytest.mark.parametrize("asks", [False, True])
    def test_nor_do_connections(self, loop, path, end, asks):
        def connection():
            client = path.client()
            if asks:
                client.send(GET)
                path.host.send(OK)
            getattr(client, end)()
            client._protocol = None  # as a transport forgets it
            loop.advance(1.1)  # until no deadline is looked at any more

        connection()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                connection()
            assert gc.collect() < 50
        finally:
            gc.enable()

    @pytest.mark.parametrize("fails", [False, True])
    @pytest.mark.parametrize("way", ["call", "repeat", "repeat keyed", "look"])
    def test_nor_do_requests_of_the_sidecar_s_own(self, loop, way, fails):
        path = DataPath(loop, upstream={**STEADY, "timeouts": {"first_byte": "1h", "total": "none"}})
        calls, purpose = path.gateway.calls, Purpose("test", "internal")
        path.client().send(GET)
        (client,) = path.listener.connections
        asking = client._exchange

        def ask(number):
            if way == "call":
                head = request_to(b"POST", b"/", [(b"host", b"test")], 5)
                return calls.call("app", head, b"hello", purpose, wanted=2)
            if way == "look":
                return calls.look(asking, 2)
            key = b"Idempotency-Key: k-%d" % number
            head = calls.parse(lines(b"POST / HTTP/1.1", b"Host: test", *[key] * way.endswith("keyed")), 5)
            return calls.repeat(calls.plan("all"), head, b"hello", purpose, correlation_id="")

        def call(number):
            task = loop.create_task(ask(number))
            loop.settle()
            if fails:
                path.host.vanish()
                path.host._protocol = None
            else:
                path.host.send(OK)
            loop.settle()
            assert isinstance(task.exception(), SidecarError) is fails
            loop.advance(1.1)  # until no deadline is looked at any more

        for number in range(10):
            call(number)
        gc.collect()
        gc.disable()
        try:
            for number in range(10, 60):
                call(number)
            assert gc.collect() < 50
        finally:
            gc.enable()

    def test_pipelined_requests_are_answered_in_order(self, path):
        client = path.client()
        client.send(GET + POST + GET)
        for number in range(3):
            path.host.take()
            path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 1") + b"%d" % number)
            assert client.take().endswith(b"%d" % number)
        path.assert_nothing_is_held(3)

    def test_no_more_is_read_ahead_than_a_little(self, path):
        client = path.client()
        client.send(GET)
        count = 0
        while client.reading:
            client.send(GET * 100)
            count += 100
        assert count * len(GET) < 200_000
        path.host.send(OK)
        for _ in range(count):
            path.host.send(OK)
        path.assert_nothing_is_held(count + 1)
        assert client.reading

    def test_a_body_streams_both_ways_under_back_pressure(self, path):
        client = path.client()
        client.send(lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 20") + b"0123456789")
        host = path.host
        host.stop_taking()
        assert not client.reading
        host.take_again()
        client.send(b"0123456789")
        host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 20") + b"0123456789")
        client.stop_taking()
        assert not host.reading
        client.take_again()
        host.send(b"0123456789")
        assert client.take().endswith(b"01234567890123456789")
        path.assert_nothing_is_held()

    def test_what_is_interim_passes_through(self, path):
        client = path.client()
        client.send(lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 5", b"Expect: 100-continue"))
        path.host.send(lines(b"HTTP/1.1 100 Continue") + lines(b"HTTP/1.1 103 Early Hints", b"Link: x"))
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        client.send(b"hello")
        path.host.send(OK)
        assert status(client.take()) == 200

    def test_an_old_client_gets_no_interim_answer_and_no_chunks(self, path):
        client = path.client()
        client.send(lines(b"GET / HTTP/1.0"))
        path.host.send(lines(b"HTTP/1.1 103 Early Hints") + CHUNKED_OK)
        received = client.take()
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert received.endswith(b"\r\n\r\nok")
        assert b"Transfer-Encoding" not in received
        assert not client.is_open

    def test_an_early_answer_closes_the_connection_behind_it(self, loop, path):
        client = path.client()
        client.send(lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 5") + b"he")
        path.host.send(OK)
        assert b"Connection: close" in client.take()
        assert client.half_closed
        client.send(b"llo" + GET)  # read and thrown away, or the answer would be lost
        loop.advance(3)
        assert not client.is_open
        path.assert_nothing_is_held()
        assert [it.is_open for it in path.hosts] == [False]

    def test_an_answer_with_octets_behind_it_is_refused(self, path):
        client = path.client()
        client.send(GET)
        path.host.send(OK + b"HTTP/1.1 200 OK\r\n\r\n")
        assert code(client.take()) == "UPSTREAM_PROTOCOL_ERROR"
        path.assert_nothing_is_held()

    def test_a_tunnel(self, path):
        client = path.client()
        client.send(
            lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: Upgrade", b"Upgrade: ws") + b"early"
        )
        path.host.send(lines(b"HTTP/1.1 101 x", b"Connection: Upgrade", b"Upgrade: ws") + b"hello")
        assert client.take().endswith(b"\r\n\r\nhello")
        assert path.host.take().endswith(b"\r\n\r\nearly")
        client.send(b"a")
        path.host.send(b"b")
        assert (path.host.take(), client.take()) == (b"a", b"b")
        client.finish()
        assert path.host.half_closed
        path.host.send(b"still")
        assert client.take() == b"still"
        path.host.finish()
        path.assert_nothing_is_held()
        assert not client.is_open


class TestSlowClients:
    """What a client has asked for and does not take is bounded, however it goes about it."""

    def test_one_that_takes_nothing_from_the_beginning_stops_the_upstream(self, path):
        client = path.client()
        client.stop_taking()
        client.send(GET)
        assert path.hosts == []
        client.take_again()
        path.host.send(OK)
        assert status(client.take()) == 200

    def test_a_body_waits_even_if_its_first_piece_was_too_much(self, path):
        client = path.client()
        client.send(GET)
        client.stop_taking(room=100)
        path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 2000") + b"x" * 1000)
        assert not path.host.reading
        client.take_again()
        path.host.send(b"x" * 1000)
        path.assert_nothing_is_held()

    def test_no_further_request_is_answered_before_the_answers_so_far_are_taken(self, path):
        client = path.client()
        client.send(GET * 3)
        path.host.take()
        client.stop_taking(room=10)
        path.host.send(OK)
        assert path.host.take() == b""
        while client.reading:
            client.send(GET * 100)  # no more is read than a little either
        client.take_again()
        assert path.host.take() != b""

    @pytest.mark.parametrize("close", [b"close", b"keep-alive"])
    def test_one_that_never_takes_its_answer_loses_its_connection(self, loop, path, close):
        client = path.client()
        client.send(lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: " + close))
        client.stop_taking(room=10)
        path.host.send(OK)
        path.assert_nothing_is_held()
        loop.advance(74)
        assert client.unsent
        client.take_some(1)  # it is slow, but not dead
        loop.advance(74)
        assert client.unsent
        loop.advance(76)
        assert client.ended == "aborted"
        assert path.listener.connections == set()

    def test_nor_does_one_stay_that_lingers(self, loop, path):
        client = path.client()
        client.send(POST[:-1])
        client.stop_taking(room=10)
        path.host.send(OK)
        assert client.half_closed
        loop.advance(200)
        assert client.ended == "aborted"

    def test_and_one_that_pipelines_gets_no_answer_for_its_slowness(self, loop, path):
        client = path.client()
        client.send(GET + GET)
        client.stop_taking(room=10)
        path.host.send(OK)
        loop.advance(160)
        assert client.ended == "aborted"
        path.assert_nothing_is_held()


class TestSlowUpstreams:
    def test_a_request_that_was_answered_before_it_was_taken_spoils_the_connection(self, path):
        client = path.client()
        client.send(POST[:-1])
        path.host.stop_taking(room=0)
        client.send(b"o")
        path.host.send(OK)
        assert status(client.take()) == 200
        assert path.host.ended == "aborted"

    def test_an_early_answer_has_its_own_times(self, loop, path):
        """When the rest of the request is sent, the head is there already."""
        client = path.client()
        client.send(POST[:-1])
        path.host.send(OK[:-2])
        client.send(b"o")
        loop.advance(4)  # over `first_byte`, within `idle`
        path.host.send(b"ok")
        assert client.take().endswith(b"\r\n\r\nok")

    def test_an_upload_that_goes_on_under_an_early_answer(self, loop):
        path = DataPath(
            loop, upstream={**STEADY, "timeouts": {"idle": "5s", "total": "none"}}, limits={"body_idle": "1s"}
        )
        client = path.client()
        client.send(lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 50"))
        path.host.send(OK[:-2])
        for _ in range(5):
            client.send(b"x")
            loop.advance(3)
        assert client.is_open
        path.host.send(b"ok")
        assert client.take().endswith(b"\r\n\r\nok")
        path.assert_nothing_is_held()


class TestTimeouts:
    def test_connecting(self, loop, path):
        client = path.client()
        path.dials.append(loop.create_future())
        client.send(GET)
        loop.advance(1.1)
        assert code(client.take()) == "UPSTREAM_TIMEOUT"
        path.assert_nothing_is_held()

    @pytest.mark.parametrize(("answer", "seconds"), [(b"", 2), (OK[:20], 2)])
    def test_the_head(self, loop, path, answer, seconds):
        client = path.client()
        client.send(GET)
        path.host.send(answer)
        loop.advance(seconds - 0.1)
        assert client.take() == b""
        loop.advance(0.2)
        assert code(client.take()) == "UPSTREAM_TIMEOUT"
        path.assert_nothing_is_held()

    def test_between_two_reads_of_the_body(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.send(OK[:-2])
        loop.advance(4.9)
        path.host.send(b"o")
        loop.advance(4.9)
        assert client.is_open
        loop.advance(0.2)
        assert client.ended == "aborted"
        path.assert_nothing_is_held()

    def test_all_of_it(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 1000"))
        for _ in range(21):
            path.host.send(b"x")
            loop.advance(1)
        assert client.ended == "aborted"
        path.assert_nothing_is_held()

    def test_a_client_that_takes_nothing(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 1000") + b"x")
        client.stop_taking()
        loop.advance(5.1)
        assert client.ended == "aborted"
        path.assert_nothing_is_held()
        assert path.log.lines[0]["reason"] == "client_slow"
        assert path.attempts == {"cancelled": 1}

    def test_a_client_that_sends_its_head_slowly(self, loop, path):
        client = path.client()
        for octet in GET[:9]:
            client.send(bytes([octet]))
            loop.advance(1)
        assert client.received == b""
        loop.advance(1.1)
        assert code(client.take()) == "REQUEST_TIMEOUT"
        loop.advance(3)
        assert not client.is_open

    def test_a_client_that_sends_its_body_slowly(self, loop, path):
        client = path.client()
        client.send(POST[:-1])
        loop.advance(20.1)  # before `body_idle`
        assert code(client.take()) == "UPSTREAM_TIMEOUT"
        path.assert_nothing_is_held()

    def test_an_idle_connection(self, loop, path):
        client = path.client()
        loop.advance(74)
        assert client.is_open
        loop.advance(2)
        assert (client.ended, client.received) == ("closed", b"")

    def test_an_event_stream_has_no_end(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream"))
        for _ in range(20):
            loop.advance(4)
            path.host.send(b"data: x\n\n")
        assert client.is_open
        client.finish()  # nobody reads a stream with half a connection
        path.assert_nothing_is_held()


class TestRetries:
    @pytest.fixture
    def path(self, loop):
        return DataPath(
            loop, upstream={**STEADY, "retry": {"max_attempts": 3, "initial_delay": "100ms", "jitter": False}}
        )

    def test_a_refused_connection_is_tried_again(self, loop, path):
        client = path.client()
        path.dials.extend([ConnectionRefusedError(), ConnectionRefusedError()])
        client.send(POST)
        loop.advance(0.5)
        assert path.host.take().endswith(b"hello")
        path.host.send(OK)
        assert status(client.take()) == 200
        path.assert_nothing_is_held()
        assert path.attempts == {"connect_failure": 2, "success": 1}

    def test_a_request_that_was_sent_is_tried_again_where_that_is_safe(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.vanish()
        loop.advance(0.2)
        path.host.send(OK)
        assert status(client.take()) == 200
        path.assert_nothing_is_held()

    def test_a_post_is_not(self, loop, path):
        client = path.client()
        client.send(POST)
        path.host.vanish()
        assert code(client.take()) == "UPSTREAM_UNREACHABLE"
        assert len(path.hosts) == 1
        path.assert_nothing_is_held()

    def test_an_unwanted_answer_leaves_its_connection_for_the_next_try(self, loop, path):
        client = path.client()
        client.send(GET)
        path.host.send(lines(b"HTTP/1.1 503 Busy", b"Content-Length: 4") + b"busy")
        loop.advance(0.2)
        path.host.send(OK)
        assert status(client.take()) == 200
        assert len(path.hosts) == 1
        path.assert_nothing_is_held()

    @pytest.mark.parametrize("when", ["pause", "connect", "answer"])
    def test_a_client_that_goes_away_ends_it(self, loop, path, when):
        client, accepted = path.client(), loop.create_future()
        path.dials.extend([ConnectionRefusedError(), accepted])
        client.send(GET)
        if when != "pause":
            loop.advance(0.2)
        if when == "answer":
            accepted.set_result(None)
            loop.settle()
        client.vanish()
        path.assert_nothing_is_held()
        loop.advance(10)
        path.assert_nothing_is_held()
        assert path.attempts == {"connect_failure": 1, **({} if when == "pause" else {"cancelled": 1})}

    def test_the_time_for_all_tries_is_limited(self, loop, path):
        client = path.client()
        path.dials.extend(loop.create_future() for _ in range(3))
        client.send(GET)
        loop.advance(20)
        assert code(client.take()) == "UPSTREAM_TIMEOUT"
        path.assert_nothing_is_held()
        assert path.attempts == {"timeout": 3}


class TestBulkhead:
    @pytest.fixture
    def path(self, loop):
        bulkhead = {"max_concurrent": 1, "max_queue": 1, "queue_timeout": "1s"}
        return DataPath(loop, upstream={**STEADY, "bulkhead": bulkhead})

    def test_one_waits_the_next_is_refused(self, path):
        first, second, third = path.client(), path.client(), path.client()
        first.send(GET)
        second.send(GET)
        third.send(GET)
        assert code(third.take()) == "BULKHEAD_FULL"
        path.host.send(OK)
        assert status(first.take()) == 200
        path.host.send(OK)
        assert status(second.take()) == 200
        path.assert_nothing_is_held(3)

    def test_not_for_long(self, loop, path):
        first, second = path.client(), path.client()
        first.send(GET)
        second.send(GET)
        loop.advance(1.1)
        assert code(second.take()) == "BULKHEAD_FULL"

    def test_whoever_goes_away_waits_no_longer(self, path):
        first, second, third = path.client(), path.client(), path.client()
        first.send(GET)
        second.send(GET)
        second.vanish()
        third.send(GET)
        path.host.send(OK)
        path.host.send(OK)
        assert status(third.take()) == 200
        path.assert_nothing_is_held(3)


KEYED = lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 5", b"Idempotency-Key: k000") + b"hello"
REQUESTS = {"get": GET, "post": POST, "chunks": CHUNKS, "keyed": KEYED}
ANSWERS = {"length": OK, "chunks": CHUNKED_OK, "until close": UNTIL_CLOSE}


def another(kind: str, number: int) -> bytes:
    """A request of the kind; of those with a key, another one each time."""
    return REQUESTS[kind].replace(b"k000", b"k%03d" % number)


class TestPeersThatVanish:
    """Whatever happens between two octets: everything is given back, and nobody takes half for the whole."""

    @pytest.mark.parametrize("kind", REQUESTS)
    @pytest.mark.parametrize("how", ["vanish", "finish"])
    def test_the_client_within_its_request(self, loop, path, kind, how):
        size = len(REQUESTS[kind])
        for cut in range(size):
            client = path.client()
            client.send(another(kind, cut)[:cut])
            getattr(client, how)()
            loop.advance(3)
            assert not client.is_open
            assert client.received == b"" or status(client.received) == 400
        heads = size - REQUESTS[kind].index(b"\r\n\r\n") - 4
        path.assert_nothing_is_held(heads)

    @pytest.mark.parametrize("kind", REQUESTS)
    @pytest.mark.parametrize("answer", ANSWERS)
    def test_the_client_within_the_answer(self, loop, path, kind, answer):
        for cut in range(len(ANSWERS[answer]) + 1):
            client = path.client()
            client.send(another(kind, cut))
            path.host.send(ANSWERS[answer][:cut])
            client.vanish()
            path.host.send(ANSWERS[answer][cut:])
            path.host.finish()
            loop.advance(3)
            path.assert_nothing_is_held(cut + 1)

    @pytest.mark.parametrize("kind", REQUESTS)
    @pytest.mark.parametrize("answer", ANSWERS)
    @pytest.mark.parametrize("how", ["vanish", "finish", "silent"])
    @pytest.mark.parametrize("hurried", [False, True])
    def test_the_upstream_within_its_answer(self, loop, kind, answer, how, hurried):
        path, whole = DataPath(loop, upstream=STEADY), ANSWERS[answer]
        for cut in range(len(whole) + 1):
            client = path.client()
            client.send(another(kind, cut))
            host = path.host
            host.hurried = hurried
            host.send(whole[:cut])
            if how == "silent":
                loop.advance(8)
            else:
                getattr(host, how)()
            loop.advance(1)
            complete = cut == len(whole) and answer != "until close"
            until_close = answer == "until close" and how == "finish" and cut >= whole.index(b"\r\n\r\n") + 4
            if complete or until_close:
                assert status(client.received) == 200
                assert client.is_open
            else:
                assert client.ended == "aborted" or status(client.received) in (502, 504), client.received
            if client.is_open:
                client.finish()
            loop.advance(3)
            path.assert_nothing_is_held(cut + 1)

    @pytest.mark.parametrize("kind", ["post", "chunks"])
    def test_the_upstream_within_the_request(self, loop, path, kind):
        request = REQUESTS[kind]
        start = request.index(b"\r\n\r\n") + 4
        for number, cut in enumerate(range(start, len(request))):
            client = path.client()
            client.send(another(kind, cut)[:cut])
            path.host.vanish()
            assert code(client.received) == "UPSTREAM_UNREACHABLE"
            assert client.half_closed
            loop.advance(3)
            path.assert_nothing_is_held(number + 1)

    @pytest.mark.parametrize("kind", ["get", "keyed"])
    def test_the_upstream_as_soon_as_it_has_accepted(self, loop, path, kind):
        """Nobody would be told of that again: nothing was sent, and the client need not wait to hear it."""

        async def dial(protocol):
            await path._dial(protocol)
            path.host.hurried = True
            path.host.vanish()

        path.app.hosts[0].pool.dial = dial
        client = path.client()
        client.send(REQUESTS[kind])
        assert code(client.take()) == "UPSTREAM_UNREACHABLE"
        path.assert_nothing_is_held()
        assert path.attempts == {"connect_failure": 1}


class TestFaultsOfOurOwn:
    """None is known. One that comes to light costs its client the answer, and nothing else."""

    @pytest.mark.parametrize("kind", REQUESTS)
    @pytest.mark.parametrize("fault", ["before", "behind"])
    def test_hold_nothing(self, loop, path, monkeypatch, kind, fault):
        def broken(*_):
            raise ValueError("bug")

        proxy = path.gateway.proxy
        monkeypatch.setattr(proxy, "_request_fields" if fault == "before" else "response_head", broken)
        client = path.client()
        client.send(REQUESTS[kind])
        if fault == "behind":
            path.host.send(OK)
        loop.settle()
        assert client.ended == "aborted"
        assert [str(error) for error in path.log.crashes] == ["bug"]
        path.log.crashes.clear()
        assert [(line["status"], line["reason"]) for line in path.log.lines] == [(500, "fault")]
        path.assert_nothing_is_held()

    def test_leave_a_key_to_its_lease(self, loop, path, monkeypatch):
        proxy = path.gateway.proxy
        monkeypatch.setattr(proxy, "_request_fields", lambda _: 1 // 0)
        path.client().send(KEYED)
        path.log.crashes.clear()
        assert path.gateway.engine.running == 0
        again = path.client()
        again.send(KEYED)
        assert code(again.take()) == "DUPLICATE_REQUEST_IN_PROGRESS"
        path.assert_nothing_is_held(2)

    def test_nor_does_the_end_of_a_drain_while_a_dead_letter_is_written(self, loop):
        path = DataPath(loop, upstream=STEADY, route={"dead_letter": True})

        class Slow:
            async def keep(self, *_):
                await loop.create_future()

        path.gateway.proxy.dead_letters = Slow()
        path.dials.append(ConnectionRefusedError())
        client = path.client()
        client.send(POST)
        loop.settle()
        client._protocol.kill()
        loop.settle()
        assert [line["reason"] for line in path.log.lines] == ["drain_timeout"]
        path.assert_nothing_is_held()
