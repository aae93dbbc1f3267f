"""What an exchange does with its body, its time and its client, seen from both ends of the data path."""

from __future__ import annotations

import asyncio
import json

import pytest

from sidecar.exchange import Exchange
from sidecar.internal import request_to
from sidecar.spans import Purpose
from tests.support.data_path import DataPath
from tests.support.transcript import read_requests
from tests.unit.wire.messages import lines, request

TIMES = {"connect": "5s", "first_byte": "5s", "idle": "5s", "total": "60s"}
STEADY = {"retry": {"max_attempts": 1}, "timeouts": TIMES}
RETRIED = {"timeouts": TIMES, "retry": {"initial_delay": "100ms", "jitter": False, "replay_body": "1KiB"}}
GET = lines(b"GET / HTTP/1.1", b"Host: test")
UPGRADE = lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: Upgrade", b"Upgrade: ws")
SWITCH = lines(b"HTTP/1.1 101 x", b"Upgrade: ws")
OK = lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"


def upload(length: int | None, *fields: bytes) -> bytes:
    """The head of a PUT, which may be sent again."""
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return lines(b"PUT / HTTP/1.1", b"Host: test", framing, *fields)


def code(received: bytes) -> str:
    return json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"]


def status(received: bytes) -> int:
    return int(received[9:12])


def sent_to(host) -> bytes:
    """The body that the upstream has read whole."""
    (message,) = read_requests([host.take()]).messages
    assert message.whole
    return message.payload


@pytest.fixture
def path(loop):
    return DataPath(loop, upstream=STEADY)


class TestBodies:
    @pytest.mark.parametrize("cut", [0, 1, 3, 5])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_whatever_has_come_before_the_connection_stands_is_sent_with_the_head(
        self, loop, path, cut, chunked
    ):
        client, accepted = path.client(), loop.create_future()
        path.dials.append(accepted)
        whole = b"5\r\nhello\r\n0\r\n\r\n" if chunked else b"hello"
        client.send(upload(None if chunked else 5) + whole[:cut])
        accepted.set_result(None)
        loop.settle()
        for octet in whole[cut:]:
            client.send(bytes([octet]))
        assert sent_to(path.host) == b"hello"
        path.host.send(OK)
        path.assert_nothing_is_held()

    def test_no_more_is_held_than_a_little_while_there_is_nobody_to_send_it_to(self, loop, path):
        client, accepted = path.client(), loop.create_future()
        path.dials.append(accepted)
        client.send(upload(1_000_000))
        count = 0
        while client.reading:
            client.send(b"x" * 10_000)
            count += 1
        assert count < 10
        accepted.set_result(None)
        loop.settle()
        assert client.reading
        for _ in range(100 - count):
            client.send(b"x" * 10_000)
        assert sent_to(path.host) == b"x" * 1_000_000
        path.host.send(OK)
        path.assert_nothing_is_held()

    @pytest.mark.parametrize("bad", [b"x\r\n", b"5\r\nhelloXX"])
    @pytest.mark.parametrize("late", [False, True])
    def test_a_malformed_one_ends_it(self, path, bad, late):
        client = path.client()
        client.send(upload(None) + (b"" if late else bad))
        if late:
            client.send(bad)
            assert path.host.ended == "aborted"
        assert code(client.take()) == "BAD_REQUEST"
        assert client.half_closed
        path.assert_nothing_is_held()

    def test_a_malformed_one_that_waits_for_a_permit(self, loop):
        path = DataPath(loop, upstream={**STEADY, "bulkhead": {"max_concurrent": 1}})
        first, second = path.client(), path.client()
        first.send(GET)
        second.send(upload(None) + b"x\r\n")
        assert code(second.take()) == "BAD_REQUEST"
        path.host.send(OK)
        path.assert_nothing_is_held(2)

    @pytest.mark.parametrize("length", [11, None])
    def test_one_over_the_limit(self, loop, length):
        path = DataPath(loop, upstream=STEADY, limits={"body": "10"})
        client = path.client()
        client.send(upload(length) + (b"6\r\nhello!\r\n" if length is None else b""))
        client.send(b"5\r\nhello\r\n")
        assert code(client.take()) == "BODY_TOO_LARGE"
        path.assert_nothing_is_held()
        assert [it.is_open for it in path.hosts] == ([False] if length is None else [])

    def test_one_that_comes_too_slowly(self, loop):
        path = DataPath(loop, upstream=STEADY, limits={"body_idle": "2s"})
        client = path.client()
        client.send(upload(5) + b"h")
        loop.advance(1.9)
        client.send(b"e")
        loop.advance(1.9)
        assert client.received == b""
        loop.advance(0.2)
        assert code(client.take()) == "REQUEST_TIMEOUT"
        path.assert_nothing_is_held()
        assert path.attempts == {"cancelled": 1}

    @pytest.mark.parametrize("framing", [b"Content-Length: 6", b"Content-Length: 2000000"])
    def test_one_that_is_read_before_its_key_is_claimed(self, loop, framing):
        """The limit is that between two pieces, here as well."""
        path = DataPath(loop, upstream=STEADY, limits={"body_idle": "2s"})
        client = path.client()
        client.send(lines(b"POST / HTTP/1.1", b"Host: test", framing, b"Idempotency-Key: k"))
        for octet in b"hello":
            loop.advance(1.9)
            client.send(bytes([octet]))
        loop.advance(1.9)
        assert client.received == b""
        loop.advance(0.2)
        assert code(client.take()) in ("REQUEST_TIMEOUT", "IDEMPOTENCY_OUTCOME_UNKNOWN")
        path.assert_nothing_is_held()

    def test_an_upstream_that_takes_it_too_slowly(self, loop):
        """That is no fault of the client's, whose own time stands still meanwhile."""
        path = DataPath(loop, upstream=STEADY, limits={"body_idle": "1s"})
        client = path.client()
        client.send(upload(5) + b"h")
        path.host.stop_taking()
        loop.advance(4.9)
        path.host.take_again()
        path.host.stop_taking(room=0)
        client.send(b"e")
        loop.advance(5.1)
        assert code(client.take()) == "UPSTREAM_TIMEOUT"
        path.assert_nothing_is_held()

    def test_one_that_had_ended_before_its_turn_came(self, path):
        """A pipelined request of which the client has closed its half in the middle."""
        client = path.client()
        client.send(GET + upload(5))
        client.finish()
        path.host.send(OK)
        assert client.take().count(b"HTTP/1.1 400 Bad Request") == 1
        path.assert_nothing_is_held(2)

    def test_requests_that_had_come_before_the_client_closed_its_half_are_all_answered(self, path):
        client = path.client()
        client.send(GET * 3)
        client.finish()
        for _ in range(3):
            path.host.send(OK)
        assert client.take().count(b"HTTP/1.1 200 OK") == 3
        assert client.ended == "closed"
        path.assert_nothing_is_held(3)


class TestSendingAgain:
    @pytest.fixture
    def path(self, loop):
        return DataPath(loop, upstream=RETRIED)

    def test_a_body_that_was_kept(self, loop, path):
        client = path.client()
        client.send(upload(5) + b"he")
        client.send(b"llo")
        path.host.vanish()
        loop.advance(0.2)
        assert sent_to(path.host) == b"hello"
        path.host.send(OK)
        path.assert_nothing_is_held()

    def test_a_body_of_which_the_rest_comes_later(self, loop, path):
        client = path.client()
        client.send(upload(5) + b"he")
        path.host.vanish()
        client.send(b"ll")
        loop.advance(0.2)
        client.send(b"o")
        assert sent_to(path.host) == b"hello"
        path.host.send(OK)
        path.assert_nothing_is_held()

    @pytest.mark.parametrize("at_once", [False, True])
    def test_not_one_that_was_too_long_to_keep(self, loop, path, at_once):
        client = path.client()
        client.send(upload(2000) + (b"x" * 2000 if at_once else b"x"))
        if not at_once:
            client.send(b"x" * 1999)
        path.host.vanish()
        loop.advance(1)
        assert code(client.take()) == "UPSTREAM_UNREACHABLE"
        assert len(path.hosts) == 1
        path.assert_nothing_is_held()

    def test_each_try_has_its_own_time(self, loop):
        path = DataPath(loop, upstream={**RETRIED, "timeouts": {**TIMES, "per_try": "1s"}})
        client = path.client()
        client.send(GET)
        loop.advance(1.1)
        loop.advance(0.2)
        assert len(path.hosts) == 2
        path.host.send(OK[:-2])
        loop.advance(4)  # it is over with the response's head
        path.host.send(b"ok")
        assert status(client.take()) == 200
        path.assert_nothing_is_held()
        assert path.attempts == {"timeout": 1, "success": 1}

    def test_a_client_has_its_own_time_again_after_an_upstream_that_was_slow(self, loop):
        path = DataPath(loop, upstream=RETRIED, limits={"body_idle": "2s"})
        client = path.client()
        client.send(upload(6) + b"h")
        path.host.stop_taking(room=0)
        client.send(b"e")
        path.host.vanish()
        loop.advance(0.1)
        for octet in b"llo":
            loop.advance(1.9)
            client.send(bytes([octet]))
        loop.advance(1.9)
        client.send(b"!")
        assert sent_to(path.host) == b"hello!"
        path.host.send(OK)
        assert status(client.take()) == 200
        path.assert_nothing_is_held()


class TestKeys:
    KEY = b"Idempotency-Key: k"

    def test_the_sidecar_itself_asks_for_a_body_that_it_needs_first(self, path):
        client = path.client()
        client.send(upload(5, self.KEY, b"Expect: 100-continue"))
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"he")
        client.send(b"llo")
        assert b"Expect" not in path.host.received
        assert sent_to(path.host) == b"hello"
        path.host.send(OK)
        assert status(client.take()) == 200
        path.assert_nothing_is_held()

    def test_nor_asks_for_what_it_has(self, path):
        client = path.client()
        client.send(upload(5, self.KEY, b"Expect: 100-continue") + b"hello")
        path.host.send(OK)
        assert client.take().startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_large_upload_streams_from_its_first_octet(self, path, chunked):
        size = 1_100_000
        client = path.client()
        client.send(upload(None if chunked else size, self.KEY))
        assert path.hosts == []
        sent = 0
        while sent < size:
            piece = b"x" * min(50_000, size - sent)
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            sent += len(piece)
        if chunked:
            client.send(b"0\r\n\r\n")
        assert sent_to(path.host) == b"x" * size
        path.host.send(OK)
        assert status(client.take()) == 200
        path.assert_nothing_is_held()

    def test_a_large_duplicate_is_compared_and_never_kept(self, path):
        size = 1_100_000
        for _ in range(2):
            client = path.client()
            client.send(upload(size, self.KEY))
            for _ in range(22):
                client.send(b"x" * 50_000)
            if path.host.is_open and path.host.received:
                path.host.take()
                path.host.send(OK)
            assert client.take().endswith(b"ok")
        path.assert_nothing_is_held(2)
        assert len(path.hosts) == 1

    def test_a_client_that_goes_away_before_its_body_is_whole(self, path):
        client = path.client()
        client.send(upload(1_100_000, self.KEY) + b"x")
        client.vanish()
        path.assert_nothing_is_held()

    def test_a_client_that_goes_away_later_changes_nothing(self, path):
        client = path.client()
        client.send(upload(5, self.KEY) + b"hello")
        client.vanish()
        path.host.send(OK)
        path.assert_nothing_is_held()
        again = path.client()
        again.send(upload(5, self.KEY) + b"hello")
        assert b"X-Idempotent-Replayed: true" in again.take()
        assert len(path.hosts) == 1

    def test_nor_does_one_that_takes_nothing(self, loop, path):
        """A large answer flows while it is made; the key is settled all the same."""
        client = path.client()
        client.send(upload(5, self.KEY) + b"hello")
        client.stop_taking(room=100)
        path.host.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 3000000") + b"x" * 60_000)
        assert not path.host.reading
        loop.advance(5.1)
        assert client.ended == "aborted"
        assert path.host.reading
        path.host.send(b"x" * 2_940_000)
        path.assert_nothing_is_held()
        again = path.client()
        again.send(upload(5, self.KEY) + b"hello")
        assert code(again.take()) == "RESPONSE_NOT_REPLAYABLE"

    def test_a_key_outlives_the_connection_s_own_time(self, loop, path):
        client = path.client()
        client.send(upload(5, self.KEY) + b"hello")
        loop.advance(5.1)
        assert code(client.take()) == "IDEMPOTENCY_OUTCOME_UNKNOWN"
        path.assert_nothing_is_held()


class TestTheEnd:
    @pytest.mark.parametrize("connecting", [False, True])
    @pytest.mark.parametrize("keyed", [False, True])
    def test_when_the_drain_s_time_is_up_everything_is_broken_off(self, loop, path, connecting, keyed):
        client = path.client()
        if connecting:
            path.dials.append(loop.create_future())
        client.send(upload(5, TestKeys.KEY) + b"hello" if keyed else GET)
        for connection in list(path.listener.connections):
            connection.kill()
        assert client.ended == "aborted"
        loop.settle()
        path.assert_nothing_is_held()

    def test_a_tunnel_under_back_pressure(self, path):
        client = path.client()
        client.send(lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: Upgrade", b"Upgrade: ws"))
        path.host.send(lines(b"HTTP/1.1 101 x", b"Upgrade: ws"))
        client.stop_taking()
        assert not path.host.reading
        client.take_again()
        path.host.stop_taking()
        assert not client.reading
        path.host.take_again()
        assert client.reading
        client.finish()
        client.vanish()
        path.assert_nothing_is_held()

    def test_a_tunnel_that_the_upstream_ends_first(self, path):
        client = path.client()
        client.send(lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: Upgrade", b"Upgrade: ws"))
        path.host.send(lines(b"HTTP/1.1 101 x", b"Upgrade: ws"))
        path.host.finish()
        assert client.half_closed
        client.send(b"still")
        assert path.host.received.endswith(b"still")
        client.finish()
        path.assert_nothing_is_held()

    def test_a_tunnel_whose_client_had_said_all_before_it_was_open(self, loop, path):
        """Its half is closed already: the upstream is told, and the upstream's end is the tunnel's."""
        client = path.client()
        client.send(UPGRADE + b"all")
        client.finish()
        path.host.send(SWITCH)
        assert path.host.received.endswith(b"all")
        assert path.host.half_closed
        path.host.send(b"answer")
        assert client.take().endswith(b"answer")
        path.host.finish()
        assert not client.is_open
        path.assert_nothing_is_held()

    def test_a_tunnel_whose_client_has_said_much_before_it_was_open(self, path):
        client = path.client()
        client.send(UPGRADE)
        client.send(b"x" * 100_000)
        assert not client.reading
        path.host.send(SWITCH)
        assert client.reading
        assert path.host.received.endswith(b"x" * 100_000)
        client.vanish()
        path.assert_nothing_is_held()

    def test_a_tunnel_where_nothing_passes(self, loop, path):
        client = path.client()
        client.send(lines(b"GET / HTTP/1.1", b"Host: test", b"Connection: Upgrade", b"Upgrade: ws"))
        path.host.send(lines(b"HTTP/1.1 101 x", b"Upgrade: ws"))
        for _ in range(20):
            loop.advance(4)
            client.send(b"x")
        assert client.is_open
        loop.advance(5.1)
        assert client.ended == "aborted"
        path.assert_nothing_is_held()


class TestAlone:
    """What cannot be seen from outside, because the parts around it leave no time for it."""

    @pytest.fixture
    def exchange(self, loop, path):
        exchange = Exchange(path.client()._protocol, request(), loop, path.gateway.deadlines)
        exchange.has_task = True
        return exchange

    def test_the_first_error_counts(self, exchange):
        exchange.fail(KeyError("first"))
        exchange.fail(KeyError("second"))
        with pytest.raises(KeyError, match="first"):
            exchange.check()
        with pytest.raises(KeyError, match="first"):
            exchange.wait()

    def test_who_does_not_wait_is_not_woken(self, loop, exchange):
        exchange.wake("nobody waits")
        waiter = exchange.wait()
        exchange.wake("first")
        exchange.wake("second")
        exchange.fail(KeyError("later"))
        loop.settle()
        assert waiter.result() == "first"

    def test_a_tunnel_without_an_upstream(self, exchange):
        exchange.tunnel_half_closed("client")
        assert exchange.upstream is None

    def test_a_client_that_is_slow_before_there_is_anything_for_it(self, loop, path):
        client, accepted = path.client(), loop.create_future()
        path.dials.append(accepted)
        client.send(GET)
        client.stop_taking()
        client.take_again()
        accepted.set_result(None)
        loop.settle()
        path.host.send(OK)
        assert status(client.take()) == 200

    def test_it_describes_itself(self, exchange):
        assert repr(exchange) == "<Exchange b'GET' b'/' status=0>"

    def test_whoever_is_cancelled_when_the_connection_is_open_leaves_it_to_others(self, loop, path):
        accepted = loop.create_future()
        path.dials.append(accepted)
        head = request_to(b"GET", b"/", [], 0)
        call = loop.create_task(path.gateway.calls.call("app", head, b"", Purpose("test", "internal")))
        loop.settle()
        (opening,) = [it for it in asyncio.all_tasks(loop) if it.get_coro().__name__ == "open"]
        opening.add_done_callback(lambda _: call.cancel())
        accepted.set_result(None)
        loop.settle()
        assert call.cancelled()
        path.assert_nothing_is_held(0)

    @pytest.mark.parametrize("takes_again", [False, True])
    def test_one_that_takes_an_interim_answer_slowly_does_not_stop_the_clock(self, loop, path, takes_again):
        client = path.client()
        client.stop_taking(room=0)
        client.send(GET)
        path.host.send(lines(b"HTTP/1.1 103 Early Hints", b"Link: x"))
        assert not path.host.reading
        if takes_again:
            client.take_again()
            assert path.host.reading
        loop.advance(5.1)
        if takes_again:
            assert code(client.take().partition(b"\r\n\r\n")[2]) == "UPSTREAM_TIMEOUT"
        else:
            assert client.ended == "aborted"
        path.assert_nothing_is_held()

    @pytest.mark.parametrize("answers", [False, True])
    def test_nor_is_one_waited_for_for_ever_that_its_exchange_outlives(self, loop, answers):
        path = DataPath(loop, upstream={**STEADY, "timeouts": {**TIMES, "total": "none"}})
        client = path.client()
        client.stop_taking(room=0)
        client.send(upload(0, b"Idempotency-Key: k").replace(b"PUT", b"POST"))
        path.host.send(lines(b"HTTP/1.1 103 Early Hints", b"Link: x"))
        loop.advance(5.1)
        assert client.ended == "aborted"
        if answers:
            path.host.send(OK)
        else:
            loop.advance(5.1)
        path.assert_nothing_is_held()
        assert path.attempts == {"success" if answers else "timeout": 1}
