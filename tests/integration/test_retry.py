"""The retry table, row by row: how often a request reaches the upstream, and what the client is told."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress

import pytest

from tests.support.messages import Broken, Ended
from tests.support.pair import STEADY, Pair
from tests.support.ports import free_port
from tests.support.raw import error_of
from tests.support.upstream import OK, Do, Reply, Upstream, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("retry")

REPEATABLE = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")
DEDUPED = ("POST", "PATCH")
METHODS = REPEATABLE + DEDUPED
WITH_BODY = ("PUT", "POST", "PATCH")
QUICK = {**STEADY, "retry": {"max_attempts": 3, "initial_delay": "1ms", "replay_body": "1KiB"}}
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
KEYS = (f"Idempotency-Key: retry-{number}" for number in itertools.count())

ONCE = dict.fromkeys(METHODS, 1)
THRICE = dict.fromkeys(METHODS, 3)
BY_METHOD = {**dict.fromkeys(REPEATABLE, 3), **dict.fromkeys(DEDUPED, 1)}

# What an upstream does with every request: it is written to, and no response comes.
NO_RESPONSE = {
    "reset": [Do.RESET],
    "closed": [Do.CLOSE],
    "half-a-head": [b"HTTP/1.1 200 OK\r\nX-A: ", Do.CLOSE],
    "only-interim": [b"HTTP/1.1 103 Early Hints\r\n\r\n", Do.CLOSE],
    "nonsense": [b"SSH-2.0-OpenSSH_9.6\r\n"],
    "two-lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
    "switch": [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"],
}


def status(code, *fields):
    """An answer with this status and no body, so that it answers HEAD too."""
    return answer(b"", *fields, status=f"{code} Whatever")


def in_turn(*scripts):
    """Answers each request with the next script."""
    replies = iter([Reply(script) for script in scripts])

    def reply(connection, request):
        next(replies)(connection, request)

    return reply


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    down = {**QUICK, "url": f"http://127.0.0.1:{free_port()}"}
    patient = {**QUICK, "timeouts": {"per_try": "100ms"}}
    lasting = {**QUICK, "timeouts": {"total": "1500ms"}, "retry": {"initial_delay": "1ms"}}
    slowly = {**STEADY, "retry": {"initial_delay": "30s", "jitter": False}}
    upstreams = {"quick": QUICK, "down": down, "patient": patient, "lasting": lasting, "slowly": slowly}
    routes = [
        {
            "name": "dedupes",
            "match": {"prefix": "/dedupes"},
            "upstream": "quick",
            "upstream_dedupes": True,
        },
        *(
            {"name": name, "match": {"prefix": f"/{name}"}, "upstream": name}
            for name in ("quick", "down", "patient", "lasting", "slowly")
        ),
        {"name": "default", "match": {"prefix": "/"}, "upstream": "app"},
    ]
    with Pair(tmp_path_factory.mktemp("retry"), upstreams, routes) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    yield shared
    assert_nothing_held(shared.sidecar)


def assert_nothing_held(sidecar):
    def held():
        items = sidecar.get("/admin/upstreams").json()["items"]
        return [(it["in_flight"], it["bulkhead"]["in_use"], it["bulkhead"]["waiting"]) for it in items]

    eventually(lambda: not any(map(any, held())), "every permit given back")


def send(pair, method, path, *fields):
    body = b"some body" if method in WITH_BODY else None
    with pair.client() as client:
        return client.request(method, path, *fields, body=body)


def sends(pair, path, script, *fields, methods=METHODS):
    """How often each method reaches an upstream that does this with every request."""
    counted = {}
    for method in methods:
        pair.upstream.forget()
        pair.upstream.replies[path] = Reply(script)
        send(pair, method, path, *fields)
        requests = pair.upstream.on(path)
        counted[method] = len(requests)
        assert {request.body for request in requests} == {b"some body" if method in WITH_BODY else b""}
    return counted


def skipped(pair, reason):
    return pair.sidecar.metric("retry_skipped_total", reason=reason)


class TestNothingWritten:
    """Row 1: any method."""

    @pytest.mark.parametrize("method", METHODS)
    def test_any_method_is_tried_again(self, pair, method):
        response = send(pair, method, "/down", f"X-Correlation-ID: down-{method}")
        assert (response.status, response["x-sidecar-reason"]) == (502, b"upstream_unreachable")
        line = pair.sidecar.access_line(correlation_id=f"down-{method}")
        assert (line["attempts"], line["reason"], line["cause"]) == (
            3,
            "upstream_unreachable",
            "connect_refused",
        )

    def test_a_keyed_one_too_and_its_key_is_free_again(self, pair):
        before = pair.sidecar.metric("idempotency_requests_total", route="down", result="released")
        response = send(pair, "POST", "/down", next(KEYS), "X-Correlation-ID: down-keyed")
        assert error_of(response)["code"] == "UPSTREAM_UNREACHABLE"
        assert pair.sidecar.access_line(correlation_id="down-keyed")["attempts"] == 3
        after = pair.sidecar.metric("idempotency_requests_total", route="down", result="released")
        assert after == before + 1

    def test_a_body_that_is_still_coming_is_at_hand_however_long(self, pair):
        """What has not been written is held, whatever `replay_body` says."""
        with pair.client() as client:
            client.request(
                "POST", "/down", "X-Correlation-ID: down-long", body=b"x" * 5000
            )  # over replay_body
        assert pair.sidecar.access_line(correlation_id="down-long")["attempts"] == 3

    def test_an_upgrade_is_not(self, pair):
        with pair.client() as client:
            client.request("GET", "/down", *UPGRADE, "X-Correlation-ID: down-upgrade")
        assert pair.sidecar.access_line(correlation_id="down-upgrade")["attempts"] == 1


class TestNoResponse:
    """Row 2: idempotent methods; POST and PATCH only where the upstream removes duplicates."""

    @pytest.mark.parametrize("what", NO_RESPONSE)
    def test_by_method(self, pair, what):
        before = skipped(pair, "method")
        assert sends(pair, "/quick", NO_RESPONSE[what]) == BY_METHOD
        assert skipped(pair, "method") == before + 2

    @pytest.mark.parametrize("what", NO_RESPONSE)
    def test_an_upstream_that_dedupes_gets_every_method_again(self, pair, what):
        assert sends(pair, "/dedupes", NO_RESPONSE[what]) == THRICE

    @pytest.mark.parametrize("what", NO_RESPONSE)
    @pytest.mark.parametrize("method", WITH_BODY)
    def test_a_key_makes_a_put_a_post(self, pair, what, method):
        key = next(KEYS)
        assert sends(pair, "/quick", NO_RESPONSE[what], key, methods=[method]) == {method: 1}
        assert error_of(send(pair, method, "/quick", key))["code"] == "IDEMPOTENCY_OUTCOME_UNKNOWN"
        assert len(pair.upstream.on("/quick")) == 1
        assert sends(pair, "/dedupes", NO_RESPONSE[what], next(KEYS), methods=[method]) == {method: 3}

    def test_a_timeout_counts_as_no_response(self, pair):
        with stuck() as never:
            assert sends(pair, "/patient", [never], methods=["GET", "POST"]) == {"GET": 3, "POST": 1}

    def test_what_comes_second_is_the_answer(self, pair):
        scripts = [Do.RESET], [status(503)], [OK]
        pair.upstream.replies["/quick"] = in_turn(*scripts)
        successes = pair.sidecar.metric("retries_total", outcome="success")
        failures = pair.sidecar.metric("retries_total", outcome="failure")
        response = send(pair, "PUT", "/quick", "X-Correlation-ID: third-time-lucky")
        assert (response.status, response.body) == (200, b"ok")
        assert [request.body for request in pair.upstream.on("/quick")] == [b"some body"] * 3
        line = pair.sidecar.access_line(correlation_id="third-time-lucky")
        assert (line["attempts"], line["reason"]) == (3, None)
        assert line["upstream_host"] == f"127.0.0.1:{pair.upstream.port}"
        assert pair.sidecar.metric("retries_total", outcome="success") == successes + 1
        assert pair.sidecar.metric("retries_total", outcome="failure") == failures + 1


class TestStatuses:
    """Rows 3 and 4."""

    @pytest.mark.parametrize("code", [502, 503, 504, 429])
    def test_not_now_is_tried_again_by_method(self, pair, code):
        before = skipped(pair, "attempts")
        assert sends(pair, "/quick", [status(code)]) == BY_METHOD
        assert skipped(pair, "attempts") == before + len(REPEATABLE)
        assert sends(pair, "/quick", [status(code)], next(KEYS), methods=["PUT"]) == {"PUT": 1}
        assert sends(pair, "/dedupes", [status(code)]) == THRICE

    @pytest.mark.parametrize("code", [500, 501, 505, 400, 404, 408, 425])
    def test_everything_else_is_an_answer(self, pair, code):
        assert sends(pair, "/quick", [status(code)]) == ONCE
        assert sends(pair, "/dedupes", [status(code)]) == ONCE

    def test_a_500_says_why(self, pair):
        before = skipped(pair, "server_error")
        sends(pair, "/quick", [status(500)], methods=["GET"])
        assert skipped(pair, "server_error") == before + 1

    def test_the_last_failure_is_passed_on_as_it_came(self, pair):
        pair.upstream.replies["/quick"] = Reply([answer(b"sorry", "X-Upstream: yes", status="503 Busy")])
        response = send(pair, "GET", "/quick")
        assert (response.status, response.body, response["x-upstream"]) == (503, b"sorry", b"yes")
        assert response.values("x-sidecar-reason") == []
        assert len(pair.upstream.on("/quick")) == 3

    def test_a_failure_that_has_come_whole_costs_no_connection(self, pair):
        with pair.client() as client:
            pair.upstream.replies["/quick"] = Reply([answer(b"sorry", status="503 Busy")])
            client.request("GET", "/quick")
        assert len({pair.upstream.connection_of(it).number for it in pair.upstream.on("/quick")}) == 1


class TestRetryAfter:
    def test_one_that_fits_is_honoured(self, pair):
        times = []

        def busy_once(connection, request):
            times.append(time.monotonic())
            connection.send(OK if len(times) > 1 else status(503, "Retry-After: 1"))

        pair.upstream.replies["/lasting"] = busy_once
        assert send(pair, "GET", "/lasting").status == 200
        assert 1 <= times[1] - times[0] < 1.4

    @pytest.mark.parametrize("value", ["2", "86400", "Fri, 31 Dec 9999 23:59:59 GMT"])
    def test_one_beyond_the_deadline_is_passed_on(self, pair, value):
        before = skipped(pair, "retry_after")
        pair.upstream.replies["/lasting"] = Reply([status(429, f"Retry-After: {value}")])
        response = send(pair, "GET", "/lasting")
        assert (response.status, response["retry-after"]) == (429, value.encode())
        assert len(pair.upstream.on("/lasting")) == 1
        assert skipped(pair, "retry_after") == before + 1

    @pytest.mark.parametrize("value", ["soon", "-1", "1.5", ""])
    def test_one_that_is_none_means_nothing(self, pair, value):
        pair.upstream.replies["/quick"] = Reply([status(503, f"Retry-After: {value}")])
        assert send(pair, "GET", "/quick").status == 503
        assert len(pair.upstream.on("/quick")) == 3


class TestNever:
    @pytest.mark.parametrize("path", ["/quick", "/dedupes"])
    @pytest.mark.parametrize(
        "begun",
        [
            b"Content-Length: 10\r\n\r\nhello",
            b"Content-Length: 10\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n",
        ],
        ids=["length", "head-alone", "chunked", "bad-chunk"],
    )
    def test_a_response_that_has_begun(self, pair, path, begun):
        before = skipped(pair, "response_begun")
        pair.upstream.replies[path] = Reply([b"HTTP/1.1 200 OK\r\n" + begun, Do.RESET])
        with pair.client() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            with suppress(Broken, Ended):
                assert client.response().status == 502  # nothing of it had been passed on
        eventually(lambda: skipped(pair, "response_begun") == before + 1, "it is counted")
        assert len(pair.upstream.on(path)) == 1

    @pytest.mark.parametrize("script", [[Do.RESET], [status(503)], [Do.CLOSE]])
    def test_an_upgrade(self, pair, script):
        before = skipped(pair, "upgrade")
        pair.upstream.replies["/dedupes"] = Reply(script)
        send(pair, "GET", "/dedupes", *UPGRADE)
        assert len(pair.upstream.on("/dedupes")) == 1
        assert skipped(pair, "upgrade") == before + 1


class TestTheBody:
    def test_one_over_replay_body_is_not_at_hand(self, pair):
        before = skipped(pair, "body")
        pair.upstream.replies["/quick"] = Reply([status(503)])
        with pair.client() as client:
            assert client.request("PUT", "/quick", body=b"x" * 1025).status == 503
            assert len(pair.upstream.on("/quick")) == 1
            assert skipped(pair, "body") == before + 1
            assert client.request("PUT", "/quick", body=b"x" * 1024).status == 503
        assert [len(request.body) for request in pair.upstream.on("/quick")] == [1025, 1024, 1024, 1024]

    def test_a_chunked_one_is_sent_again_as_it_was(self, pair):
        scripts = [status(503)], [OK]
        pair.upstream.replies["/quick"] = in_turn(*scripts)
        with pair.client() as client:
            client.send(b"PUT /quick HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n")
            assert client.response("PUT").status == 200
        assert [request.body for request in pair.upstream.on("/quick")] == [b"abcde", b"abcde"]

    @pytest.mark.parametrize("rest", [b"world", b"w" * 3000], ids=["kept", "longer-than-kept"])
    def test_one_that_is_still_coming_follows(self, pair, rest):
        """The upstream refuses in the middle of an upload; the second one gets it from the beginning."""

        def refuse_the_first(connection, request):
            if len(pair.upstream.on("/quick")) == 1:
                b"".join(connection.reader.pieces(5))
                connection.reset()
            else:
                connection.read_body(request)
                connection.send(OK)

        pair.upstream.replies["/quick"] = refuse_the_first
        with pair.client() as client:
            length = 5 + len(rest)
            client.send(b"PUT /quick HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\nhello" % length)
            pair.upstream.wait_request("/quick", 2)
            client.send(rest)
            assert client.response("PUT").status == 200
        assert pair.upstream.on("/quick")[1].body == b"hello" + rest


class TestTheClient:
    def test_one_that_goes_away_in_the_pause_ends_it(self, pair):
        pair.upstream.replies["/slowly"] = Reply([status(503)])
        with pair.client() as client:
            client.send(b"GET /slowly HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: left\r\n\r\n")
            pair.upstream.wait_request("/slowly")
            client.reset()
        assert pair.sidecar.access_line(correlation_id="left")["reason"] == "client_gone"
        assert_nothing_held(pair.sidecar)

    def test_the_budget_is_free_again_too(self, pair):
        """Three retries are always allowed: the fourth would get none if those who left held theirs."""
        pair.upstream.replies["/slowly"] = Reply([status(503)])
        before = skipped(pair, "budget")
        for number in range(8):
            with pair.client() as client:
                client.send(b"GET /slowly HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: l%d\r\n\r\n" % number)
                pair.upstream.wait_request("/slowly", number + 1)
                client.reset()
            pair.sidecar.access_line(correlation_id=f"l{number}")
        assert skipped(pair, "budget") == before


class TestAKeptConnection:
    """One that the upstream closes just as a request is written to it (RFC 9112, section 9.3.1)."""

    def test_written_and_closed_is_not_known_to_be_unread(self, pair):
        def close_the_second(connection, request):
            connection.read_body(request)
            if len(connection.requests) > 1:
                connection.close()
            else:
                connection.send(OK)

        for method, expected in (("GET", 2), ("POST", 1)):
            pair.upstream.forget()
            pair.upstream.replies["/quick"] = close_the_second
            assert send(pair, "GET", "/quick").status == 200
            pair.upstream.forget()
            pair.upstream.replies["/quick"] = close_the_second
            response = send(pair, method, "/quick")
            assert response.status == (200 if method == "GET" else 502)
            assert len(pair.upstream.on("/quick")) == expected

    def test_one_closed_after_every_answer_loses_no_post(self, pair):
        """The next request may be there before the loop has been told of the end."""

        def answer_and_close(connection, request):
            connection.read_body(request)
            connection.send_and_close(OK)

        pair.upstream.replies["/quick"] = answer_and_close
        with pair.client() as client:
            answers = [
                client.request("POST", "/quick", f"X-Number: {number}", body=b"x").status
                for number in range(300)
            ]
        numbers = [request["x-number"] for request in pair.upstream.on("/quick")]
        assert len(numbers) == len(set(numbers))
        assert answers == [200] * 300


@pytest.fixture
def other():
    with Upstream() as server:
        yield server


class TestSeveralHosts:
    def test_a_retry_avoids_the_host_just_tried(self, start_sidecar, upstream, other):
        upstream.reply = Reply([status(503)])
        config = {
            "upstreams": {"app": {"urls": [upstream.url, other.url], **QUICK}},
            "routes": [{"name": "default", "match": {"prefix": "/"}, "upstream": "app"}],
        }
        sidecar = start_sidecar(config)
        with sidecar.client() as client:
            assert [client.request("GET", "/").status for _ in range(20)] == [200] * 20
        assert len(other.requests) == 20
        assert len(upstream.requests) == 20 - len(sidecar.access_lines(attempts=1))

    def test_one_that_is_down_costs_nobody_an_answer(self, start_sidecar, upstream):
        config = {
            "upstreams": {"app": {"urls": [f"http://127.0.0.1:{free_port()}", upstream.url], **QUICK}},
            "routes": [{"name": "default", "match": {"prefix": "/"}, "upstream": "app"}],
        }
        sidecar = start_sidecar(config)
        with sidecar.client() as client:
            assert [client.request("POST", "/", body=b"x").status for _ in range(20)] == [200] * 20
        assert len(upstream.requests) == 20


class stuck:  # noqa: N801 - reads like a function
    """An event that nobody sets until the block ends."""

    def __enter__(self):
        self.event = threading.Event()
        return self.event

    def __exit__(self, *_):
        self.event.set()
