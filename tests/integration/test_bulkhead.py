"""The bulkhead before a real upstream: who gets in, who waits, and when a permit is free again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support.crowd import crowd
from tests.support.messages import Broken, Ended
from tests.support.pair import STEADY, Pair
from tests.support.raw import error_of
from tests.support.upstream import OK, Do, Reply, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("bulkhead")

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"


def room(permits, queue=0, timeout="100ms", **settings):
    bulkhead = {"max_concurrent": permits, "max_queue": queue, "queue_timeout": timeout}
    return {**STEADY, "bulkhead": {**bulkhead, **settings.pop("bulkhead", {})}, **settings}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    upstreams = {
        "one": room(1),
        "queue": room(1, queue=2, timeout="10s"),
        "brief": room(1, queue=5, timeout="150ms"),
        "hurry": {
            "url": "http://127.0.0.1:1",
            "timeouts": {"total": "200ms"},
            "retry": {"max_attempts": 1},
            "breaker": {"failure_threshold": 1, "reset_timeout": "1h"},
        },
        "ten": room(10, queue=1000, timeout="30s"),
        "adaptive": room(50, queue=200, timeout="30s", bulkhead={"adaptive": True}),
    }
    routes = [
        {"name": name, "match": {"prefix": f"/{name}"}, "upstream": name}
        | ({"fallback": "queue"} if name == "hurry" else {})
        for name in upstreams
    ]
    with Pair(tmp_path_factory.mktemp("bulkhead"), upstreams, routes) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    yield shared
    eventually(lambda: figures(shared) == {(0, 0, 0)}, "nothing is held at the end")


def figures(pair):
    items = pair.sidecar.get("/admin/upstreams").json()["items"]
    return {(it["bulkhead"]["in_use"], it["bulkhead"]["waiting"], it["bulkhead"]["streams"]) for it in items}


def bulkhead(pair, name):
    return pair.sidecar.get(f"/admin/upstreams/{name}").json()["bulkhead"]


def wait_bulkhead(pair, name, **wanted):
    eventually(lambda: wanted.items() <= bulkhead(pair, name).items(), f"{wanted} at {name}")


def assert_full(response):
    error = error_of(response)
    assert (response.status, error["code"], response["retry-after"]) == (503, "BULKHEAD_FULL", b"1")


def rejected(pair, name, reason):
    return pair.sidecar.metric("bulkhead_rejected_total", upstream=name, reason=reason)


@contextmanager
def occupied(pair, name, script=None):
    """A request that the upstream is working on; yields what lets it go on, and the client."""
    go_on = threading.Event()
    pair.upstream.replies[f"/{name}"] = Reply([go_on, OK] if script is None else [*script, go_on, Do.CLOSE])
    with pair.client() as client:
        try:
            client.send(f"GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            pair.upstream.wait_request(f"/{name}")
            yield go_on, client
        finally:
            go_on.set()


def test_without_a_queue_the_next_one_is_refused_at_once(pair):
    before = rejected(pair, "one", "queue_full")
    with occupied(pair, "one") as (go_on, client):
        assert pair.sidecar.metric("bulkhead_in_use", upstream="one") == 1
        response = pair.request("GET", "/one", "X-Correlation-ID: full")
        assert_full(response)
        line = pair.sidecar.access_line(correlation_id="full")
        assert (line["reason"], line["cause"], line["attempts"]) == ("bulkhead_full", "queue_full", 0)
        assert rejected(pair, "one", "queue_full") == before + 1
        assert len(pair.upstream.on("/one")) == 1
        go_on.set()
        assert client.response().status == 200
    assert pair.request("GET", "/one").status == 200


def test_a_full_one_opens_no_breaker_and_frees_keys(pair):
    with occupied(pair, "one") as (go_on, client):
        for _ in range(10):
            response = pair.request("POST", "/one", "Idempotency-Key: full", body=b"x")
            assert_full(response)
        go_on.set()
        client.response()
    assert pair.request("POST", "/one", "Idempotency-Key: full", body=b"x").status == 200
    host = pair.sidecar.get("/admin/upstreams/one").json()["hosts"][0]
    assert host["breaker"]["counts"]["failures"] == 0


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
    ids=["length", "chunked", "close"],
)
def test_a_permit_is_held_until_the_body_has_ended(pair, begun):
    with occupied(pair, "one", [begun]) as (go_on, client):
        assert client.head().status == 200
        assert b"".join(client.reader.pieces(5))
        assert_full(pair.request("GET", "/one"))
        go_on.set()
        eventually(lambda: bulkhead(pair, "one")["in_use"] == 0, "the permit is free")


def test_an_upload_holds_one_while_it_streams(pair):
    with pair.client() as client:
        client.send(b"PUT /one HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        pair.upstream.wait_request("/one")
        assert_full(pair.request("GET", "/one"))
        client.send(b"world")
        assert client.response("PUT").status == 200


def test_the_queue_is_bounded_and_first_come_first_served(pair):
    before = rejected(pair, "queue", "queue_full")
    with occupied(pair, "queue") as (go_on, first), ExitStack() as stack:
        waiting = [stack.enter_context(pair.client()) for _ in range(2)]
        for number, client in enumerate(waiting):
            client.send(b"GET /queue?%d HTTP/1.1\r\nHost: test\r\n\r\n" % number)
            wait_bulkhead(pair, "queue", in_use=1, waiting=number + 1)
        assert_full(pair.request("GET", "/queue"))
        assert rejected(pair, "queue", "queue_full") == before + 1
        go_on.set()
        assert [client.response().status for client in (first, *waiting)] == [200] * 3
    targets = [request.target for request in pair.upstream.on("/queue")]
    assert targets == [b"/queue", b"/queue?0", b"/queue?1"]


def test_a_place_in_the_queue_is_free_when_its_client_goes_away(pair):
    with occupied(pair, "queue") as (go_on, _):
        for _ in range(5):
            clients = [pair.client() for _ in range(2)]
            for client in clients:
                client.send(b"GET /queue?gone HTTP/1.1\r\nHost: test\r\n\r\n")
            wait_bulkhead(pair, "queue", in_use=1, waiting=2)
            for client in clients:
                client.reset()
            wait_bulkhead(pair, "queue", in_use=1, waiting=0)
        go_on.set()
    assert [request.target for request in pair.upstream.on("/queue")] == [b"/queue"]


def test_nobody_waits_longer_than_queue_timeout(pair):
    before = rejected(pair, "brief", "queue_timeout")
    with occupied(pair, "brief"):
        began = time.monotonic()
        response = pair.request("GET", "/brief", "X-Correlation-ID: waited")
        assert 0.14 <= time.monotonic() - began < 5
        assert_full(response)
    line = pair.sidecar.access_line(correlation_id="waited")
    assert (line["reason"], line["cause"]) == ("bulkhead_full", "queue_timeout")
    assert rejected(pair, "brief", "queue_timeout") == before + 1


def test_nor_longer_than_the_whole_request_may_take(pair):
    assert pair.request("GET", "/hurry").status == 502  # which opens the breaker
    with occupied(pair, "queue"):
        response = pair.request("GET", "/hurry", "X-Correlation-ID: waited-in-vain")
        assert error_of(response)["code"] == "UPSTREAM_TIMEOUT"
    line = pair.sidecar.access_line(correlation_id="waited-in-vain")
    assert (line["status"], line["cause"], line["attempts"]) == (504, "total", 0)


@pytest.mark.parametrize("script", [[Do.RESET], [Do.CLOSE], [b"nonsense\r\n\r\n"], [answer(status="500 X")]])
def test_a_permit_comes_back_however_it_ends(pair, script):
    pair.upstream.replies["/one"] = Reply(script)
    for _ in range(5):
        assert pair.request("GET", "/one").status in (500, 502)
    pair.upstream.forget()
    assert pair.request("GET", "/one").status == 200


def test_a_permit_comes_back_when_the_body_breaks_off(pair):
    pair.upstream.replies["/one"] = Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Do.RESET])
    for _ in range(5):
        with pair.client() as client, suppress(Broken, Ended):
            client.send(b"GET /one HTTP/1.1\r\nHost: test\r\n\r\n")
            client.response()
        wait_bulkhead(pair, "one", in_use=0)


class TestStreams:
    """Long-lived ones are counted apart: they must not shut everybody else out."""

    def test_an_event_stream(self, pair):
        with occupied(pair, "one", [SSE + b"5\r\nevent\r\n"]) as (_, client):
            assert client.head().status == 200
            wait_bulkhead(pair, "one", in_use=0, streams=1)
            pair.upstream.replies["/one"] = Reply()
            assert pair.request("GET", "/one").status == 200
        wait_bulkhead(pair, "one", in_use=0, streams=0)

    def test_a_tunnel(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/one"] = Reply([SWITCH, go_on, b"bye", Do.CLOSE])
        with pair.client() as client:
            client.send(b"GET /one HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            assert client.head().status == 101
            wait_bulkhead(pair, "one", in_use=0, streams=1)
            pair.upstream.replies["/one"] = Reply()
            assert pair.request("GET", "/one").status == 200
            go_on.set()
            assert b"".join(client.reader.rest()) == b"bye"
        wait_bulkhead(pair, "one", in_use=0, streams=0)


class Gauge:
    """An upstream that measures how many requests it has at once, and takes its time for each."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.highest = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, connection, request):
        connection.read_body(request)
        with self._lock:
            self._now += 1
            self.highest = max(self.highest, self._now)
        threading.Event().wait(self.seconds(self._now))
        with self._lock:
            self._now -= 1
        connection.send(OK)


def test_a_crowd_is_served_by_as_many_as_may(pair):
    gauge = pair.upstream.replies["/ten"] = Gauge(lambda _: 0.005)
    answers = crowd(pair.sidecar.port, b"GET /ten HTTP/1.1\r\nHost: test\r\n\r\n", clients=200, each=3)
    assert Counter(answer.status for answer in answers) == {200: 600}
    assert 8 <= gauge.highest <= 10


def test_the_adaptive_limit_falls_when_calls_queue_in_the_upstream(pair):
    """It bears 4 at once: with more, each takes longer in proportion, as behind a thread pool."""
    gauge = pair.upstream.replies["/adaptive"] = Gauge(lambda now: 0.01 * max(1, now / 4))
    request = b"GET /adaptive HTTP/1.1\r\nHost: test\r\n\r\n"
    crowd(pair.sidecar.port, request, clients=2, each=220)  # what it is like without a queue
    start = bulkhead(pair, "adaptive")["limit"]
    assert start == 20
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        answers = crowd(pair.sidecar.port, request, clients=60, each=5)
        assert Counter(answer.status for answer in answers) == {200: 300}
    assert bulkhead(pair, "adaptive")["limit"] < start
    assert gauge.highest <= start + 4
