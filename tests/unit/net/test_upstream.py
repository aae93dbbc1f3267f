from types import SimpleNamespace

import pytest

from sidecar.errors import UpstreamProtocolError, UpstreamUnreachable
from sidecar.net.upstream import CLIENT_SIDE, UPSTREAM_SIDE
from tests.unit.net.hosts import Host, pool_of
from tests.unit.wire.messages import lines, request

OK = lines(b"HTTP/1.1 200 OK", b"Content-Length: 5")
CHUNKED = lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
UNTIL_CLOSE = lines(b"HTTP/1.1 200 OK")
SWITCH = lines(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket")


class FakeExchange:
    """Writes down what it is told."""

    def __init__(self, head=None, *, forwards_expect=False):
        self.head = head if head is not None else request()
        self.body = SimpleNamespace(sent=True, forwards_expect=forwards_expect)
        self.told = []

    def wake(self, result):
        self.told.append(("wake", result if result is None else result.status))

    def fail(self, error):
        self.told.append(("fail", type(error), error.reason))

    def interim(self, head):
        self.told.append(("interim", head.status))

    def touch(self):
        self.told.append(("touch",))

    def let_upstream_flow(self, upstream):
        upstream.resume_reading()

    def tunnel_half_closed(self, side):
        self.told.append(("half closed", side))

    def pause_client(self):
        self.told.append(("pause client",))

    def resume_client(self):
        self.told.append(("resume client",))


@pytest.fixture
def host(loop):
    return Host(loop)


@pytest.fixture
def pool(loop, host):
    return pool_of(loop, host)


@pytest.fixture
def upstream(loop, pool):
    return loop.run(pool.open())


@pytest.fixture
def peer(host, upstream):
    return host.connections[0]


@pytest.fixture
def exchange(upstream):
    exchange = FakeExchange()
    upstream.begin(exchange)
    return exchange


class TestHeads:
    def test_a_head_wakes_the_exchange_once_and_the_body_waits_to_be_taken(self, upstream, peer, exchange):
        peer.send(OK[:10])
        assert exchange.told == []
        assert upstream.touched
        peer.send(OK[10:] + b"he")
        peer.send(b"ll")
        assert exchange.told == [("wake", 200)]
        assert upstream.take_body() == b"hell"
        assert upstream.take_body() == b""

    def test_interim_answers_come_before_it(self, upstream, peer, exchange):
        peer.send(lines(b"HTTP/1.1 103 Early Hints") + OK)
        assert exchange.told == [("interim", 103), ("wake", 200)]

    @pytest.mark.parametrize(
        ("stream", "reason"),
        [
            (b"hello\r\n\r\n", "status_line"),
            (b"HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n", "header_field"),
            (lines(b"HTTP/1.1 100 Continue"), "unexpected_1xx"),
            (lines(b"HTTP/1.1 103 x") * 2, "unexpected_1xx"),
            (SWITCH, "unexpected_101"),
            (lines(b"HTTP/1.1 200 OK", b"X-A: " + b"a" * 1000), "header_bytes"),
        ],
    )
    def test_what_makes_no_sense_ends_the_connection(self, upstream, peer, exchange, stream, reason):
        peer.send(stream)
        assert exchange.told[-1] == ("fail", UpstreamProtocolError, reason)
        assert peer.ended == "aborted"

    def test_a_100_is_expected_where_it_was_asked_for_once(self, upstream, peer):
        exchange = FakeExchange(forwards_expect=True)
        upstream.begin(exchange)
        peer.send(lines(b"HTTP/1.1 100 Continue"))
        assert exchange.told == [("interim", 100)]
        peer.send(lines(b"HTTP/1.1 100 Continue"))
        assert exchange.told[-1][0] == "fail"

    def test_what_was_seen_of_one_exchange_is_not_held_against_the_next(self, upstream, peer, exchange):
        for _ in range(2):
            peer.send(lines(b"HTTP/1.1 103 x") + OK + b"hello")
            upstream.take_body()
            upstream.finish()
            exchange = FakeExchange()
            upstream.begin(exchange)
        assert peer.is_open

    @pytest.mark.parametrize("cut", range(len(OK)))
    def test_it_may_break_off_anywhere(self, pool, upstream, peer, exchange, cut):
        peer.send(OK[:cut])
        peer.vanish()
        assert exchange.told == [("fail", UpstreamUnreachable, "reset")]
        assert pool.size == 0

    def test_a_close_in_good_order_is_no_answer_either(self, upstream, peer, exchange):
        peer.finish()
        assert exchange.told == [("fail", UpstreamUnreachable, "reset")]


class TestBodies:
    def relay(self, upstream):
        taken = [upstream.take_body()]
        if not upstream.reader.body.done:
            upstream.relay_body(taken.append)
        return taken

    def test_of_known_length(self, upstream, peer, exchange):
        peer.send(OK + b"he")
        taken = self.relay(upstream)
        peer.send(b"l")
        peer.send(b"lo")
        assert b"".join(taken) == b"hello"
        assert exchange.told == [("wake", 200), ("touch",), ("wake", None)]

    def test_chunked_with_trailers(self, upstream, peer, exchange):
        peer.send(CHUNKED)
        taken = self.relay(upstream)
        peer.send(b"5\r\nhel")
        peer.send(b"lo\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert b"".join(taken) == b"hello"
        assert upstream.reader.body.trailers == [b"X-Sum: 1"]
        assert exchange.told[-1] == ("wake", None)

    def test_framing_alone_is_nothing_to_pass_on(self, upstream, peer, exchange):
        peer.send(CHUNKED)
        taken = self.relay(upstream)
        peer.send(b"5;a=b")
        assert taken == [b""]
        assert exchange.told[-1] == ("touch",)

    def test_up_to_the_end_of_the_connection(self, upstream, peer, exchange):
        peer.send(UNTIL_CLOSE + b"he")
        taken = self.relay(upstream)
        peer.send(b"llo")
        peer.finish()
        assert b"".join(taken) == b"hello"
        assert exchange.told[-1] == ("wake", None)
        assert upstream.reader.body.done

    @pytest.mark.parametrize("pieces", [[b"hello"], [b"he", b"llo"]])
    def test_up_to_an_end_that_comes_before_the_body_is_taken(self, upstream, peer, exchange, pieces):
        """Whoever runs in a task of its own has been woken then, and has not run yet."""
        peer.send(UNTIL_CLOSE + pieces[0])
        for piece in pieces[1:]:
            peer.send(piece)
        peer.finish()
        assert exchange.told == [("wake", 200)]
        assert (upstream.take_body(), upstream.reader.body.done) == (b"hello", True)
        assert upstream.take_body() == b""

    @pytest.mark.parametrize("how", ["reset", "reset after the end"])
    def test_a_reset_is_no_end(self, upstream, peer, exchange, how):
        peer.send(UNTIL_CLOSE + b"hello")
        self.relay(upstream)
        if how == "reset":
            peer.vanish()
        else:
            upstream.eof_received()
            peer.vanish(ConnectionResetError())
        assert exchange.told[-1] == ("fail", UpstreamUnreachable, "reset")

    @pytest.mark.parametrize("head", [OK, CHUNKED])
    def test_a_body_that_breaks_off(self, pool, upstream, peer, exchange, head):
        peer.send(head + b"4\r\n")
        self.relay(upstream)
        peer.finish()
        assert exchange.told[-1] == ("fail", UpstreamUnreachable, "reset")
        assert pool.size == 0

    def test_a_body_that_is_malformed(self, upstream, peer, exchange):
        peer.send(CHUNKED)
        self.relay(upstream)
        peer.send(b"x\r\n")
        assert exchange.told[-1] == ("fail", UpstreamProtocolError, "chunk_size")
        assert peer.ended == "aborted"

    @pytest.mark.parametrize("stream", [OK + b"hello", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
    def test_a_whole_response_is_kept_when_its_connection_goes_before_it_is_taken(
        self, upstream, peer, exchange, stream
    ):
        peer.send(stream)
        peer.vanish()
        assert exchange.told == [("wake", 200)]
        assert (upstream.take_body(), upstream.reader.body.done) == (b"hello", True)

    @pytest.mark.parametrize(
        "stream", [OK, OK + b"hell", CHUNKED + b"5\r\nhello\r\n", UNTIL_CLOSE + b"hello"]
    )
    def test_half_a_response_is_not_taken_for_a_whole_one(self, upstream, peer, exchange, stream):
        peer.send(stream)
        peer.vanish()
        assert exchange.told == [("wake", 200), ("fail", UpstreamUnreachable, "reset")]
        upstream.take_body()
        upstream.relay_body(lambda data: None)
        upstream.discard()
        assert not upstream.reader.body.done

    def test_nor_is_a_malformed_one(self, upstream, peer, exchange):
        peer.send(CHUNKED + b"x\r\n")
        peer.vanish()
        assert exchange.told == [("wake", 200), ("fail", UpstreamProtocolError, "chunk_size")]

    def test_a_connection_that_goes_when_its_body_has_ended_took_nothing_along(
        self, upstream, peer, exchange
    ):
        peer.send(OK)
        self.relay(upstream)
        peer.send(b"hello")
        peer.vanish()
        assert [told for told in exchange.told if told[0] == "fail"] == []

    def test_no_more_than_a_little_is_read_ahead(self, upstream, peer, exchange):
        peer.send(lines(b"HTTP/1.1 200 OK", b"Content-Length: 1000000"))
        while peer.reading:
            peer.send(b"a" * 10_000)
        assert len(upstream.reader.buffer) < 100_000
        self.relay(upstream)
        assert peer.reading


class TestAfterwards:
    def answer(self, upstream, peer, stream=OK + b"hello"):
        peer.send(stream)
        upstream.take_body()
        upstream.finish()

    def test_a_connection_goes_back_to_the_pool(self, pool, upstream, peer, exchange):
        self.answer(upstream, peer)
        assert pool.take() is upstream
        assert upstream.reused

    @pytest.mark.parametrize(
        "stream",
        [
            lines(b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Connection: close"),
            lines(b"HTTP/1.0 200 OK", b"Content-Length: 0"),
            OK + b"hello" + b"H",
            OK + b"hello" + OK + b"hello",
        ],
    )
    def test_unless_it_cannot_be_used_again(self, pool, upstream, peer, exchange, stream):
        self.answer(upstream, peer, stream)
        assert peer.ended == "aborted"
        assert pool.take() is None

    def test_nor_after_an_early_answer_to_a_request_that_was_not_all_sent(
        self, pool, upstream, peer, exchange
    ):
        exchange.body.sent = False
        self.answer(upstream, peer)
        assert peer.ended == "aborted"

    def test_nor_once_it_is_gone(self, pool, upstream, peer, exchange):
        peer.send(OK + b"hello")
        peer.vanish()
        upstream.take_body()
        upstream.finish()
        assert (pool.size, pool.idle) == (0, 0)

    def test_reading_goes_on_in_the_pool(self, upstream, peer, exchange):
        upstream.pause_reading()
        upstream.pause_reading()
        peer.reading = True  # what was in flight
        self.answer(upstream, peer)
        assert peer.reading

    @pytest.mark.parametrize(
        ("stream", "kept"),
        [
            (b"", False),
            (OK, False),
            (OK + b"hell", False),
            (OK + b"hello", True),
            (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True),
            (CHUNKED + b"x\r\n", False),
            (UNTIL_CLOSE + b"hello", False),
        ],
    )
    @pytest.mark.usefixtures("exchange")
    def test_a_response_that_nobody_wants_keeps_its_connection_if_it_is_whole(
        self, pool, upstream, peer, stream, kept
    ):
        peer.send(stream)
        upstream.drop_response()
        assert peer.is_open is kept
        assert pool.idle == (1 if kept else 0)

    def test_nothing_is_told_to_whoever_has_turned_away(self, loop, upstream, peer, exchange):
        upstream.discard()
        upstream.discard()
        loop.settle()
        upstream.write(b"x")
        assert (exchange.told, peer.received) == ([], b"")
        upstream.pause_writing()
        upstream.resume_writing()
        assert exchange.told == []


class TestTunnels:
    @pytest.fixture
    def exchange(self, upstream):
        """One that asks for another protocol."""
        exchange = FakeExchange(request(b"Connection: Upgrade", b"Upgrade: websocket, other"))
        upstream.begin(exchange)
        return exchange

    def test_octets_pass_from_the_first_one_behind_the_head(self, upstream, peer, exchange):
        peer.send(SWITCH + b"early")
        assert exchange.told == [("wake", 101)]
        taken = []
        upstream.open_tunnel(taken.append)
        peer.send(b"later")
        upstream.write(b"ours")
        assert (taken, peer.received) == ([b"early", b"later"], b"ours")

    def test_an_upstream_that_has_gone_already(self, upstream, peer, exchange):
        """Whoever waited in a task of its own has been woken by the 101, and runs only now."""
        peer.send(SWITCH + b"early")
        peer.vanish()
        taken = []
        assert not upstream.open_tunnel(taken.append)
        assert taken == [b"early"]

    def test_nothing_early(self, upstream, peer, exchange):
        peer.send(SWITCH)
        taken = []
        upstream.open_tunnel(taken.append)
        assert taken == []

    @pytest.mark.parametrize(
        "fields", [[], [b"Upgrade: h2c"], [b"Upgrade: websocket, third"], [b"Connection: Upgrade"]]
    )
    def test_a_protocol_that_was_not_offered_opens_none(self, upstream, peer, exchange, fields):
        peer.send(lines(b"HTTP/1.1 101 x", *fields))
        assert exchange.told == [("fail", UpstreamProtocolError, "unexpected_101")]

    def test_each_side_ends_for_itself(self, loop, upstream, peer, exchange):
        peer.send(SWITCH)
        upstream.open_tunnel(lambda data: None)
        peer.finish()
        assert exchange.told[-1] == ("half closed", UPSTREAM_SIDE)
        assert peer.is_open
        upstream.end_writing()
        assert peer.half_closed
        assert CLIENT_SIDE != UPSTREAM_SIDE

    def test_a_lost_connection_ends_it(self, upstream, peer, exchange):
        peer.send(SWITCH)
        upstream.open_tunnel(lambda data: None)
        peer.vanish()
        assert exchange.told[-1] == ("wake", None)
        upstream.end_writing()
        assert not peer.half_closed


def test_a_request_that_the_upstream_has_not_taken_leaves_no_connection_behind(
    pool, upstream, peer, exchange
):
    peer.stop_taking()
    peer.send(OK + b"hello")
    upstream.take_body()
    upstream.finish()
    assert peer.ended == "aborted"
    assert pool.idle == 0


def test_an_upstream_that_takes_the_request_slowly_stops_the_client(upstream, peer, exchange):
    peer.stop_taking()
    peer.take_again()
    assert exchange.told == [("pause client",), ("resume client",)]


def test_it_describes_itself(upstream):
    assert repr(upstream) == "<UpstreamConnection 127.0.0.1:3000 phase=0>"
