"""Bodies that fit into no memory: they flow under back-pressure, and the sidecar's memory stays flat."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import messages
from tests.support.pair import STEADY, Pair
from tests.support.upstream import OK, Reply
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("large bodies")

MIB = 1 << 20
SIZE = 256 * MIB
GROWTH = 10 * MIB
"""What the sidecar's memory may grow by (the contract of the benchmark, too)."""

STALLED = 96 * MIB
"""What may be under way while the reader sleeps: the kernel's buffers of two connections, on both ends."""

_BLOCK = hashlib.sha256(b"x").digest() * (MIB // 32)


def blocks(size: int) -> Iterator[bytes]:
    """``size`` octets in which every megabyte differs, so that a lost or repeated one is seen."""
    for number in range(size // MIB):
        yield b"%016d" % number + _BLOCK[16:]


def digest_of(pieces: Iterator[bytes]) -> tuple[int, str]:
    """How many octets there are, and their hash."""
    count, digest = 0, hashlib.sha256()
    for piece in pieces:
        count += len(piece)
        digest.update(piece)
    return count, digest.hexdigest()


@pytest.fixture(scope="module")
def expected():
    return digest_of(blocks(SIZE))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    unhurried = {**STEADY, "timeouts": {"total": "5m", "idle": "1m"}}
    with Pair(tmp_path_factory.mktemp("large"), {"app": unhurried}) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


class Sender:
    """Sends blocks and counts them, in whatever thread runs it; ``frame`` writes one onto the wire."""

    def __init__(self, frame=lambda block: block) -> None:
        self.sent = 0
        self._frame = frame

    def run(self, send) -> None:
        for block in blocks(SIZE):
            send(self._frame(block))
            self.sent += len(block)

    def stalls(self) -> bool:
        """Whether it has begun and gets no further."""
        before = self.sent
        threading.Event().wait(0.3)
        return self.sent == before > 0


def chunk(block: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(block), block)


class Watch:
    """The sidecar's memory, measured from when a few megabytes have warmed it up."""

    def __init__(self, pair: Pair) -> None:
        pair.upstream.replies["/warm"] = Reply([OK])
        for _ in range(3):
            assert pair.request("POST", "/warm", body=b"w" * (2 * MIB)).status == 200
        pair.upstream.requests[0].body = b""
        self._sidecar = pair.sidecar
        self._before = self._sidecar.resident_bytes()

    def check(self) -> None:
        grown = self._sidecar.resident_bytes() - self._before
        assert grown < GROWTH, f"the sidecar's memory has grown by {grown / MIB:.1f} MiB"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_a_download_waits_for_a_slow_reader(pair, expected, framing, keyed):
    fields = {
        "length": b"Content-Length: %d\r\n" % SIZE,
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"Connection: close\r\n",
    }[framing]
    sender = Sender(chunk) if framing == "chunked" else Sender()

    def stream(connection, request):
        connection.read_body(request)
        connection.send(b"HTTP/1.1 200 OK\r\n%b\r\n" % fields)
        sender.run(connection.send)
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        if framing == "close":
            connection.close()

    watch = Watch(pair)
    pair.upstream.replies["/down"] = stream
    key = b"Idempotency-Key: %b\r\n" % framing.encode() if keyed else b""
    method = "POST" if keyed else "GET"
    with pair.client(receive_buffer=64 * 1024) as client:
        client.reader.keep = False
        client.send(b"%b /down HTTP/1.1\r\nHost: test\r\n%b\r\n" % (method.encode(), key))
        response = client.head(method)
        eventually(sender.stalls, "the upstream is held up")
        assert sender.sent < STALLED
        watch.check()
        assert digest_of(messages.body_pieces(client.reader, response)) == expected
        watch.check()
    assert pair.upstream.on("/down")[0].method == method.encode()


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_an_upload_waits_for_a_slow_upstream(pair, expected, framing, keyed):
    go_on = threading.Event()
    seen = []

    def swallow(connection, request):
        connection.reader.keep = False
        assert go_on.wait(30)
        seen.append(digest_of(messages.body_pieces(connection.reader, request)))
        connection.send(OK)

    watch = Watch(pair)
    pair.upstream.replies["/up"] = swallow
    fields = b"Content-Length: %d\r\n" % SIZE if framing == "length" else b"Transfer-Encoding: chunked\r\n"
    if keyed:
        fields += b"Idempotency-Key: up-%b\r\n" % framing.encode()
    sender = Sender(chunk) if framing == "chunked" else Sender()
    with pair.client() as client:

        def upload():
            client.send(b"POST /up HTTP/1.1\r\nHost: test\r\n%b\r\n" % fields)
            sender.run(client.send)
            if framing == "chunked":
                client.send(b"0\r\n\r\n")

        thread = threading.Thread(target=upload)
        thread.start()
        eventually(sender.stalls, "the client is held up")
        assert sender.sent < STALLED
        watch.check()
        go_on.set()
        assert client.response("POST").status == 200
        thread.join()
        watch.check()
    assert seen == [expected]
    assert pair.upstream.on("/up")[0].framing == framing


def test_a_tunnel_is_held_up_both_ways(pair):
    """Whatever the tunnel carries, neither end can make the sidecar keep what the other does not take."""
    upstream_sender, client_sender = Sender(), Sender()
    go_on = threading.Event()
    received = []

    def tunnel(connection, request):
        connection.reader.keep = False
        connection.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        thread = threading.Thread(target=upstream_sender.run, args=(connection.send,))
        thread.start()
        assert go_on.wait(30)
        received.append(digest_of(connection.reader.pieces(SIZE)))
        thread.join()
        connection.close()

    watch = Watch(pair)
    pair.upstream.replies["/tunnel"] = tunnel
    with pair.client(receive_buffer=64 * 1024) as client:
        client.reader.keep = False
        client.send(b"GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
        assert client.head().status == 101
        thread = threading.Thread(target=client_sender.run, args=(client.send,))
        thread.start()
        eventually(upstream_sender.stalls, "the upstream is held up")
        eventually(client_sender.stalls, "the client is held up")
        assert max(upstream_sender.sent, client_sender.sent) < STALLED
        watch.check()
        go_on.set()
        assert digest_of(client.reader.pieces(SIZE)) == digest_of(blocks(SIZE))
        thread.join()
        watch.check()
    eventually(lambda: received == [digest_of(blocks(SIZE))], "the upstream has it all")
