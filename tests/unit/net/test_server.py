"""Connections from clients, with a handler that the test plays; `test_exchange.py` has whole exchanges."""

import socket

import pytest

from sidecar.errors import ClientGone, SidecarError
from sidecar.net.deadlines import Deadlines
from sidecar.net.server import ClientLimits, Listener
from sidecar.wire.fields import REQUEST_FIELDS, FieldRules
from sidecar.wire.head import Limits
from tests.support.transport import FakeTransport
from tests.unit.wire.messages import lines

GET = lines(b"GET / HTTP/1.1", b"Host: test")
HALF = lines(b"POST / HTTP/1.1", b"Host: test", b"Content-Length: 5") + b"he"


class FakeHandler:
    """Answers with the target's last letter, or raises what the test wants."""

    def __init__(self):
        self.targets = []
        self.refused = []
        self.crashes = []
        self.raises = None

    async def handle(self, connection, head):
        self.targets.append(head.target)
        if self.raises is not None:
            raise self.raises
        connection.write(head.target[-1:])
        connection.end_exchange()

    def crashed(self, error):
        self.crashes.append(error)

    def refuse(self, connection, error):
        self.refused.append(error)
        connection.write(b"refused")


@pytest.fixture
def handler():
    return FakeHandler()


@pytest.fixture
def listener(loop, handler):
    return Listener(
        "ingress",
        scheme="http",
        handler=handler,
        limits=ClientLimits(
            head=Limits(header_bytes=1000), header_timeout=2.0, body_idle=3.0, keep_alive=5.0, body=None
        ),
        rules=FieldRules(REQUEST_FIELDS),
        deadlines=Deadlines(loop),
        capacity=2,
        trust_ids=True,
        correlation_header="X-Correlation-ID",
    )


@pytest.fixture
def connect(loop, listener):
    def connect(peer=("192.0.2.7", 1234)):
        return FakeTransport(loop, listener.accept(), peer=peer)

    yield connect
    for connection in list(listener.connections):
        connection.kill()
    loop.settle()


class TestRequests:
    def test_one_after_another(self, connect, handler):
        client = connect()
        client.send(lines(b"GET /a HTTP/1.1", b"Host: test"))
        client.send(lines(b"GET /b HTTP/1.1", b"Host: test") + lines(b"GET /c HTTP/1.1", b"Host: test"))
        assert client.take() == b"abc"
        assert client.is_open

    @pytest.mark.parametrize("first", [b"GET / HTTP/1.0", b"GET / HTTP/1.1\r\nConnection: close"])
    def test_the_last_one(self, connect, first):
        client = connect()
        client.send(lines(first, b"Host: test") + GET)
        assert (client.take(), client.ended) == (b"/", "closed")

    def test_none_is_read_behind_a_body_that_was_not_read(self, loop, connect, handler):
        client = connect()
        client.send(HALF + GET)
        assert handler.targets == [b"/"]
        assert client.half_closed
        client.send(b"x" * 100)
        loop.advance(2.1)
        assert client.ended == "closed"

    def test_a_client_that_goes_on_sending_is_cut_off(self, connect):
        client = connect()
        client.send(HALF)
        for _ in range(11):
            client.send(b"x" * 100_000)
        assert client.ended == "aborted"

    def test_a_client_that_has_seen_the_end_ends_too(self, connect):
        client = connect()
        client.send(HALF)
        client.finish()
        assert client.ended == "closed"

    def test_what_is_no_request_is_refused(self, connect, handler):
        client = connect()
        client.send(b"hello\r\n\r\n")
        assert client.take() == b"refused"
        assert client.half_closed
        assert [error.answer_status for error in handler.refused] == [400]

    @pytest.mark.parametrize("octets", [b"", b"GE"])
    def test_a_client_that_ends_before_it_has_asked(self, connect, handler, octets):
        client = connect()
        client.send(octets)
        client.finish()
        assert (client.ended, client.received, handler.targets) == ("closed", b"", [])


class TestTime:
    def test_an_idle_connection(self, loop, connect):
        client = connect()
        client.send(GET)
        loop.advance(4.9)
        client.send(GET)
        loop.advance(4.9)
        assert client.is_open
        loop.advance(0.2)
        assert client.ended == "closed"

    def test_a_head_that_comes_slowly(self, loop, connect, handler):
        client = connect()
        loop.advance(4)
        client.send(GET[:3])
        loop.advance(1.9)
        client.send(GET[3:6])
        assert client.received == b""
        loop.advance(0.2)
        assert client.take() == b"refused"
        assert handler.refused[0].answer_status == 408

    def test_the_next_head_has_its_own_time(self, loop, connect):
        client = connect()
        for _ in range(3):
            client.send(GET[:3])
            loop.advance(1.5)
            client.send(GET[3:])
        assert client.take() == b"///"


class TestFaults:
    def test_a_fault_of_our_own_ends_one_connection(self, connect, handler):
        client, other = connect(), connect()
        handler.raises = KeyError("bug")
        client.send(GET)
        assert client.ended == "aborted"
        assert handler.crashes == [handler.raises]
        handler.raises = None
        other.send(GET)
        assert other.take() == b"/"

    def test_an_error_that_the_handler_leaves_to_us(self, connect, handler):
        client = connect()
        handler.raises = SidecarError("no")
        client.send(GET)
        assert client.take() == b"refused"

    def test_a_client_that_is_gone(self, connect, handler):
        client = connect()
        handler.raises = ClientGone()
        client.send(GET)
        assert client.ended == "aborted"

    def test_breaking_off_resets_the_connection(self, connect, handler):
        """A FIN would end a body without a length in good order."""
        client = connect()
        handler.raises = ClientGone()
        client.send(GET)
        assert (socket.SOL_SOCKET, socket.SO_LINGER) in client.socket.options

    def test_a_transport_without_a_socket_is_broken_off_too(self, connect, handler):
        client = connect()
        client.socket = None
        handler.raises = ClientGone()
        client.send(GET)
        assert client.ended == "aborted"

    def test_nothing_is_written_to_whoever_is_gone(self, loop, listener, connect):
        client = connect()
        (connection,) = listener.connections
        connection.abort()
        connection.abort()
        connection.write(b"x")
        connection.end_writing()
        connection.pause_reading()
        connection.resume_reading()
        loop.settle()
        assert (client.received, client.half_closed, client.reading) == (b"", False, True)


class TestListeners:
    def test_no_more_connections_than_there_may_be(self, listener, connect):
        clients = [connect() for _ in range(3)]
        assert [client.is_open for client in clients] == [True, True, False]
        assert (listener.refused, len(listener.connections)) == (1, 2)
        clients[0].vanish()
        assert connect().is_open

    def test_a_drain_ends_what_is_idle_and_lets_the_rest_answer(self, loop, listener, connect):
        idle, asking = connect(), connect()
        asking.send(GET[:5])
        listener.drain()
        loop.settle()
        assert (idle.ended, asking.is_open) == ("closed", True)
        assert all(connection.draining for connection in listener.connections)
        asking.send(GET[5:])
        assert (asking.take(), asking.ended) == (b"/", "closed")
        assert not connect().is_open

    @pytest.mark.parametrize(
        ("peer", "address"), [(("::1", 1, 0, 0), b"::1"), ("", b"unix"), (None, b"unix")]
    )
    def test_where_a_client_is(self, listener, connect, peer, address):
        connect(peer)
        (connection,) = listener.connections
        assert connection.peer == address
        assert repr(connection) == f"<ServerConnection ingress from {address!r}>"
