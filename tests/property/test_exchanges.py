"""Clients and upstreams that do whatever they can, in any order: when all have gone silent, nothing is held.

The way of a request is real, sockets and time are not (``tests/support/data_path.py``). What two peers do
may come in one turn of the loop, or with turns in between, so that callbacks meet in every order.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sidecar.driver import DirectFuture
from sidecar.idempotency.store import StoreError
from tests.support.data_path import DataPath
from tests.support.manual_loop import ManualLoop
from tests.support.transport import FakeTransport
from tests.unit.wire.messages import lines

HOST = b"Host: test"
KEY = b"Idempotency-Key: %s"
PIECES_OF_REQUESTS = [
    lines(b"GET / HTTP/1.1", HOST),
    lines(b"GET / HTTP/1.1", HOST) * 3,
    lines(b"HEAD / HTTP/1.1", HOST),
    lines(b"GET / HTTP/1.0", HOST),
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5") + b"hello",
    lines(b"PUT / HTTP/1.1", HOST, b"Content-Length: 5") + b"he",
    lines(b"PUT / HTTP/1.1", HOST, b"Content-Length: 200000") + b"x" * 50_000,
    lines(b"PUT / HTTP/1.1", HOST, b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n",
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", b"Expect: 100-continue"),
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", KEY % b"same") + b"hello",
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", KEY % b"NEW") + b"hello",
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 5", KEY % b"NEW") + b"he",
    lines(b"POST / HTTP/1.1", HOST, b"Content-Length: 2000000", KEY % b"NEW") + b"x" * 100,
    lines(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked", KEY % b"NEW") + b"3\r\nabc\r\n",
    lines(b"GET / HTTP/1.1", HOST, b"Connection: Upgrade", b"Upgrade: ws"),
    lines(b"GET / HTTP/1.1", HOST, b"Connection: Upgrade", b"Upgrade: ws") + b"early",
    b"llo",
    b"x",
    b"x" * 70_000,
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"GET / HT",
    b"junk\r\n\r\n",
]
EVENTS = b"Content-Type: text/event-stream"
PIECES_OF_ANSWERS = [
    lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok",
    lines(b"HTTP/1.1 200 OK", b"Content-Length: 2"),
    lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"okHTTP/1.1",
    lines(b"HTTP/1.1 200 OK", b"Content-Length: 100000") + b"x" * 70_000,
    lines(b"HTTP/1.1 200 OK", b"Content-Length: 3000000") + b"x" * 1_500_000,
    lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"),
    lines(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n",
    lines(b"HTTP/1.1 200 OK") + b"until close",
    lines(b"HTTP/1.1 200 OK", EVENTS, b"Transfer-Encoding: chunked"),
    lines(b"HTTP/1.1 200 OK", EVENTS),
    lines(b"HTTP/1.1 503 Busy", b"Content-Length: 4") + b"busy",
    lines(b"HTTP/1.1 503 Busy", b"Content-Length: 4") + b"bu",
    lines(b"HTTP/1.1 429 Slow Down", b"Retry-After: 0", b"Content-Length: 0"),
    lines(b"HTTP/1.1 500 Broken", b"Content-Length: 0"),
    lines(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: ws"),
    lines(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: ws") + b"early",
    lines(b"HTTP/1.1 100 Continue"),
    lines(b"HTTP/1.1 103 Early Hints"),
    b"o",
    b"ok",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"xyz\r\n",
    b"x" * 30_000,
    b"x" * 1_500_000,
]
UPSTREAM = {
    "timeouts": {
        "connect": "300ms",
        "first_byte": "300ms",
        "per_try": "500ms",
        "idle": "400ms",
        "total": "2s",
    },
    "pool": {"idle": "1s", "max_connections": 2},
    "retry": {"initial_delay": "10ms", "max_delay": "50ms"},
    "bulkhead": {"max_concurrent": 3, "max_queue": 2, "queue_timeout": "50ms"},
}
BREAKERS = [{"failure_threshold": 3, "reset_timeout": "200ms"}, {"failure_threshold": 1_000_000}]
MOST_CLIENTS = 5


class SlowStore:
    """A memory store that may answer late, as Redis does: by :class:`DirectFuture`, and within a second.

    Attributes:
        waits: Whether it answers when it is told to, not at once.
        asked: Who waits for it.
    """

    def __init__(self, loop, store):
        self._loop = loop
        self._store = store
        self.waits = False
        self.asked = []

    def __getattr__(self, name):
        carry_out = getattr(self._store, name)

        async def call(*args, **options):
            if self.waits:
                answer = DirectFuture(self._loop)
                self.asked.append(answer)
                silent = StoreError("silent", reason="timeout", maybe_done=True)
                timer = self._loop.call_later(1.0, self.end, answer, silent)
                try:
                    await answer
                finally:
                    timer.cancel()
            return await carry_out(*args, **options)

        return call

    def end(self, answer, error=None):
        """Answer, if nobody has given up."""
        if not answer.done():
            answer.set_result(None) if error is None else answer.set_exception(error)


which = st.integers(0, 9)
moves = st.sampled_from(["vanish", "finish", "stop_taking", "take_again"])


class Peers(RuleBasedStateMachine):
    """Clients and hosts, and a loop that runs when it is told to."""

    @initialize(breaker=st.sampled_from(BREAKERS), on_duplicate=st.sampled_from(["reject", "wait"]))
    def start(self, breaker, on_duplicate):
        self.loop = ManualLoop().__enter__()
        self.path = DataPath(
            self.loop,
            upstream={**UPSTREAM, "breaker": breaker},
            route={"idempotency": {"ttl": "1s", "on_duplicate": on_duplicate}},
            limits={"body_idle": "500ms", "keep_alive": "2s"},
        )
        self.host = self.path.app.hosts[0]
        self.host.pool.dial = self.dial
        engine = self.path.gateway.engine
        self.store = engine.store = engine._ledger.store = SlowStore(self.loop, engine.store)
        self.dialling = "accepted"
        self.dialled = []
        self.clients = []
        self.said_all = set()
        self.keys = 0
        self.connect()

    async def dial(self, protocol):
        how = self.dialling
        if how == "refused":
            raise ConnectionRefusedError
        if how == "waiting":
            await self.word()
        host = FakeTransport(self.loop, protocol(), peer=None)
        host.hurried = True
        self.path.hosts.append(host)
        if how == "late":
            try:
                await self.word()
            except BaseException:
                host.forget()  # as uvloop does with a connection that it has made, and may not hand over
                raise
        if how == "hung up":
            host.vanish()

    async def word(self):
        self.dialled.append(self.loop.create_future())
        await self.dialled[-1]

    @precondition(lambda self: sum(it.is_open for it in self.clients) < MOST_CLIENTS)
    @rule()
    def connect(self):
        client = self.path.client()
        client.hurried = True
        self.clients.append(client)

    @rule(which=which, piece=st.sampled_from(PIECES_OF_REQUESTS))
    def client_sends(self, which, piece):
        self.keys += 1
        self.send(self.clients, which, piece.replace(b"NEW", b"%d" % self.keys))

    @rule(which=which, piece=st.sampled_from(PIECES_OF_ANSWERS))
    def host_sends(self, which, piece):
        self.send(self.path.hosts, which, piece)

    @rule(which=which, move=moves)
    def client_does(self, which, move):
        self.move(self.clients, which, move)

    @rule(which=which, move=moves)
    def host_does(self, which, move):
        self.move(self.path.hosts, which, move)

    @rule(how=st.sampled_from(["accepted", "refused", "waiting", "late", "hung up"]))
    def dial_otherwise(self, how):
        self.dialling = how

    @rule(error=st.sampled_from([None, OSError("no route")]))
    def end_a_dial(self, error):
        if self.dialled and not (dialled := self.dialled.pop(0)).done():
            dialled.set_result(None) if error is None else dialled.set_exception(error)

    @rule(waits=st.booleans())
    def the_store_is_slow_or_not(self, waits):
        self.store.waits = waits

    @rule(which=which, error=st.sampled_from([None, StoreError("no", reason="refused", maybe_done=False)]))
    def the_store_answers(self, which, error):
        if self.store.asked:
            self.store.end(self.store.asked.pop(which % len(self.store.asked)), error)

    @rule(seconds=st.sampled_from([0.005, 0.03, 0.06, 0.31, 0.5, 1.1]), busy=st.booleans())
    def time_passes(self, seconds, busy):
        if busy:  # the loop has no time to look at its timers
            self.loop._now += seconds
        else:
            self.loop.advance(seconds)

    @rule()
    def a_turn(self):
        self.loop.call_soon(lambda: None)
        self.loop._run_once()

    @rule()
    def all_turns(self):
        self.loop.settle()

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        try:
            self.store.waits = False
            self.loop.advance(60)
            self.loop.run(self.path.gateway.engine._ledger.retry())
            self.assert_nothing_is_held()
            for peer in (*self.clients, *self.path.hosts):
                peer.vanish()
            self.loop.advance(2)
            self.assert_nothing_is_held()
            assert self.host.pool.size == 0
        finally:
            self.loop.__exit__(None)

    def pick(self, peers, which):
        """An open peer that the sidecar reads from, if there is any."""
        peers = [it for it in peers if it.is_open]
        return peers[which % len(peers)] if peers else None

    def send(self, peers, which, piece):
        peer = self.pick(peers, which)
        if peer is not None and peer.reading and peer not in self.said_all:
            peer.send(piece)

    def move(self, peers, which, move):
        peer = self.pick(peers, which)
        if peer is None:
            return
        if move == "finish":
            if not peer.reading or peer in self.said_all:
                return
            self.said_all.add(peer)
        getattr(peer, move)()

    def assert_nothing_is_held(self):
        self.path.assert_nothing_is_held(len(self.path.log.lines))
        assert self.host.breaker.stats(self.loop.time()).probes_in_flight == 0


TestPeers = pytest.mark.timeout(300)(Peers.TestCase)
TestPeers.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
