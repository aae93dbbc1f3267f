"""One id from the client's request through the upstream, the log and every answer, whoever gives it."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tests.support.messages import Broken, Ended
from tests.support.pair import Pair
from tests.support.ports import free_port
from tests.support.raw import Client, error_of
from tests.support.sidecar import UUID7, Sidecar
from tests.support.upstream import Do, Reply, Upstream, answer

pytestmark = pytest.mark.xdist_group("correlation")

GOOD = ["a", "0", "trace.1:2-3_4", "A" * 100, "01890a5d-ac96-774b-bcce-b302099a8057"]
BAD = [
    "",
    " ",
    "a b",
    "a,b",
    "A" * 101,
    "A" * 10_000,
    "é",
    "a\tb",
    '"a"',
    "a;b",
    "a/b",
    "${jndi:x}",
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    upstreams = {"retried": {"retry": {"initial_delay": "1ms"}}}
    with Pair(tmp_path_factory.mktemp("correlation"), upstreams) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


@pytest.mark.parametrize("given", GOOD)
def test_a_good_id_is_taken_as_it_is(pair, given):
    response = pair.request("GET", "/", f"X-Correlation-ID:  {given} ")
    assert response["x-correlation-id"] == given.encode()
    assert pair.upstream.requests[0]["x-correlation-id"] == given.encode()
    assert pair.sidecar.access_line(correlation_id=given)["status"] == 200


@pytest.mark.parametrize("given", BAD, ids=range(len(BAD)))
def test_anything_else_is_replaced(pair, given):
    response = pair.request("GET", "/", f"X-Correlation-ID: {given}")
    fresh = response["x-correlation-id"]
    assert UUID7.fullmatch(fresh)
    assert pair.upstream.requests[0]["x-correlation-id"] == fresh
    assert pair.sidecar.access_line(correlation_id=fresh.decode())["status"] == 200


@pytest.mark.parametrize(
    "fields",
    [(), ("X-Correlation-ID: a", "X-Correlation-ID: b"), ("X-Correlation-ID: a", "x-correlation-id: a")],
    ids=["none", "two", "twice the same"],
)
def test_none_or_two_make_a_fresh_one(pair, fields):
    response = pair.request("GET", "/", *fields)
    assert UUID7.fullmatch(response["x-correlation-id"])
    assert pair.upstream.requests[0]["x-correlation-id"] == response["x-correlation-id"]


@pytest.mark.parametrize("octet", [b"\x1b", b"\x00", b"\x7f"])
def test_control_characters_are_no_field_value_at_all(pair, octet):
    """RFC 9110, section 5.5: the request is refused, under a fresh id."""
    with pair.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: a%b[31m\r\n\r\n" % octet)
        response = client.response()
    assert response.status == 400
    assert UUID7.fullmatch(response["x-correlation-id"])
    assert pair.upstream.requests == []


def test_ids_differ_and_grow(pair):
    with pair.client() as client:
        ids = [client.request("GET", "/")["x-correlation-id"] for _ in range(100)]
    assert len(set(ids)) == 100
    assert sorted(ids, key=lambda it: it[:13]) == ids


def test_the_request_id_is_made_per_request(pair):
    with pair.client() as client:
        first, second = (client.request("GET", "/", "X-Correlation-ID: same") for _ in range(2))
    assert first["x-correlation-id"] == second["x-correlation-id"] == b"same"
    assert first["x-request-id"] != second["x-request-id"]
    assert [it["x-request-id"] for it in pair.upstream.requests] == [
        first["x-request-id"],
        second["x-request-id"],
    ]
    given = pair.request("GET", "/", "X-Request-ID: mine")
    assert given["x-request-id"] == pair.upstream.requests[-1]["x-request-id"] == b"mine"


def test_every_attempt_of_a_request_carries_the_same(pair):
    outcomes = iter([Do.CLOSE, Do.CLOSE, None])

    def flaky(connection, request):
        step = next(outcomes)
        Reply([step] if step else [answer()])(connection, request)

    pair.upstream.replies["/retried"] = flaky
    response = pair.request("GET", "/retried")
    ids = [it["x-correlation-id"] for it in pair.upstream.on("/retried")]
    assert ids == [response["x-correlation-id"]] * 3


def test_the_upstream_cannot_change_it(pair):
    pair.upstream.reply = Reply([answer(b"ok", "X-Correlation-ID: forged", "X-Request-ID: forged")])
    response = pair.request("GET", "/", "X-Correlation-ID: mine")
    assert response.values("x-correlation-id") == [b"mine"]
    assert response["x-request-id"] != b"forged"


class TestEveryAnswerHasIt:
    def test_the_sidecars_own_errors(self, pair):
        pair.upstream.reply = Reply([Do.CLOSE])
        response = pair.request("GET", "/", "X-Correlation-ID: dead-end")
        assert error_of(response)["correlation_id"] == "dead-end"

    @pytest.mark.parametrize("head", [b"GET /", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"])
    def test_refusals(self, pair, head):
        with pair.client() as client:
            client.send(head)
            client.finish_sending()
            try:
                response = client.response()
            except (Ended, Broken):
                assert head == b"GET /"  # nobody is left who asks for anything
                return
        assert UUID7.fullmatch(response["x-correlation-id"])

    def test_replays_carry_the_present_one_and_name_the_first(self, pair):
        first = pair.request("POST", "/", "Idempotency-Key: corr", "X-Correlation-ID: first", body=b"x")
        again = pair.request("POST", "/", "Idempotency-Key: corr", "X-Correlation-ID: second", body=b"x")
        assert first["x-correlation-id"] == b"first"
        assert again["x-correlation-id"] == b"second"
        assert again["x-idempotent-original-correlation-id"] == b"first"
        assert again["x-request-id"] != first["x-request-id"]

    def test_switched_protocols(self, pair):
        script = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
        pair.upstream.reply = Reply([script, Do.CLOSE])
        with pair.client() as client:
            client.send(
                b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n"
                b"X-Correlation-ID: tunnel-1\r\n\r\n"
            )
            assert client.head()["x-correlation-id"] == b"tunnel-1"

    def test_the_admin_port_too(self, pair):
        for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)):
            response = pair.sidecar.get(path, headers={"X-Correlation-ID": "ops-1"})
            assert (response.status_code, response.headers["x-correlation-id"]) == (status, "ops-1")


def test_concurrent_requests_keep_theirs_apart(pair):
    def echo(connection, request):
        connection.read_body(request)
        connection.send(answer(request["x-correlation-id"]))

    pair.upstream.reply = echo
    wrong = []

    def converse(name):
        with pair.client() as client:
            for number in range(50):
                given = f"{name}-{number}".encode()
                response = client.request("GET", "/", f"X-Correlation-ID: {given.decode()}")
                if (response["x-correlation-id"], response.body) != (given, given):
                    wrong.append(response)

    threads = [threading.Thread(target=converse, args=(f"thread-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_listeners_and_the_header_can_be_configured(tmp_path):
    """The one that faces strangers trusts nobody; the header has another name."""
    outside, inside = free_port(), free_port()
    strangers = {"header": "X-Trace", "inbound": "regenerate"}
    with Upstream() as upstream:
        config = {
            "upstreams": {"app": {"url": upstream.url}},
            "correlation": {"header": "X-Trace"},
            "listeners": [
                {"name": "outside", "bind": f"127.0.0.1:{outside}", "correlation": strangers},
                {"name": "inside", "bind": f"127.0.0.1:{inside}"},
            ],
        }
        with closing(Sidecar(config, tmp_path)):
            with Client(("127.0.0.1", inside)) as client:
                response = client.request("GET", "/", "X-Trace: mine", "X-Correlation-ID: other")
                assert response["x-trace"] == b"mine"
                assert "x-correlation-id" not in response
                assert upstream.requests[-1]["x-trace"] == b"mine"
            with Client(("127.0.0.1", outside)) as client:
                response = client.request("GET", "/", "X-Trace: forged", "X-Request-ID: forged")
                assert UUID7.fullmatch(response["x-trace"])
                assert upstream.requests[-1]["x-trace"] == response["x-trace"]
                assert response["x-request-id"] != b"forged"
