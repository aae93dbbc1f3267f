"""The circuit breaker before a real upstream: what opens it, what it lets through, and what it tells."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime

import pytest

from tests.support.crowd import crowd
from tests.support.messages import Broken, Ended
from tests.support.pair import Pair
from tests.support.raw import error_of, refusal
from tests.support.upstream import OK, Do, Reply, Upstream, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("breaker")

GET = b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n"
RARELY = 1_000_000
NO_RETRY = {"max_attempts": 1}
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def status(code, *fields):
    return answer(b"", *fields, status=f"{code} Whatever")


def guarded(retry=None, timeouts=None, **breaker):
    return {"breaker": breaker, "retry": retry or NO_RETRY, "timeouts": timeouts or {}}


# One upstream, and so one breaker, for each test; behind all of them is the same scripted server.
UPSTREAMS = {
    **{f"row-{what}": guarded() for what in ("reset", "closed", "nonsense", "502", "503", "504")},
    "row-timeout": guarded(timeouts={"first_byte": "50ms"}),
    "row-broken": guarded(),
    "row-refused": {**guarded(), "url": "http://127.0.0.1:1"},
    "attempts": guarded(retry={"max_attempts": 3, "initial_delay": "1ms"}),
    "between": guarded(failure_threshold=3),
    "statuses": guarded(failure_threshold=2, failure_statuses=[418, 501]),
    "good": guarded(failure_threshold=1, minimum_calls=10),
    "rate": guarded(failure_threshold=RARELY, minimum_calls=10, failure_rate="50%"),
    "slow": guarded(slow_call="30ms", minimum_calls=5, slow_rate="80%"),
    "gone": guarded(failure_threshold=1, minimum_calls=1),
    "replays": guarded(),
    "quiet": guarded(failure_threshold=1, reset_timeout="300ms"),
    "wait": guarded(failure_threshold=1, reset_timeout="1500ms"),
    "crowd": guarded(failure_threshold=1, reset_timeout="100ms"),
    "cancel": guarded(failure_threshold=1, reset_timeout="100ms"),
    "late": guarded(failure_threshold=1, reset_timeout="100ms", success_threshold=1),
    "stream": guarded(failure_threshold=1, reset_timeout="100ms", success_threshold=1),
    "first": guarded(failure_threshold=1, reset_timeout="1h"),
    "second": guarded(failure_threshold=1, reset_timeout="1h", timeouts={"first_byte": "100ms"}),
    "storm": {
        **guarded(
            retry={"max_attempts": 3, "initial_delay": "10ms"},
            failure_threshold=RARELY,
            minimum_calls=RARELY,
        ),
        "bulkhead": {"max_concurrent": 1000},
    },
    "defaults": {"retry": {"initial_delay": "10ms"}},
    "nowhere": {
        **guarded(failure_threshold=1, reset_timeout="20s"),
        "urls": ["http://127.0.0.1:1", "http://127.0.0.1:2"],
    },
    "observed": guarded(failure_threshold=2, reset_timeout="1h"),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    routes = [
        {"name": name, "match": {"prefix": f"/{name}"}, "upstream": name}
        | ({"fallback": "second"} if name == "first" else {})
        for name in UPSTREAMS
    ]
    with Upstream() as one, Upstream() as two:
        hosts = {"urls": [one.url, two.url]}
        upstreams = {
            **UPSTREAMS,
            "hosts": {**hosts, **guarded(failure_threshold=2, reset_timeout="1h")},
            "turns": hosts,
        }
        routes += [
            {"name": name, "match": {"prefix": f"/{name}"}, "upstream": name} for name in ("hosts", "turns")
        ]
        with Pair(tmp_path_factory.mktemp("breaker"), upstreams, routes) as pair:
            pair.one, pair.two = one, two
            yield pair


@pytest.fixture
def pair(shared):
    for server in (shared.upstream, shared.one, shared.two):
        server.forget()
    return shared


def breaker_of(pair, name):
    return pair.sidecar.get(f"/admin/upstreams/{name}").json()["hosts"][0]["breaker"]


def state(pair, name):
    return breaker_of(pair, name)["state"]


def wait_state(pair, name, wanted):
    eventually(lambda: state(pair, name) == wanted, f"the breaker of {name} is {wanted}")


def transitions(pair, name):
    return [it for it in pair.sidecar.logs() if it["event"] == "circuit breaker" and it["upstream"] == name]


def wait_transitions(pair, name, count):
    return eventually(
        lambda: len(found := transitions(pair, name)) >= count and found, f"{count} changes of {name}"
    )


def get(pair, name, *fields):
    return pair.request("GET", f"/{name}", *fields)


def assert_refused(response):
    assert refusal(response) == (503, "CIRCUIT_OPEN")
    assert int(response["retry-after"]) >= 1


class TestOpens:
    @pytest.mark.parametrize(
        ("what", "script"),
        [
            ("reset", [Do.RESET]),
            ("closed", [Do.CLOSE]),
            ("nonsense", [b"What?\r\n\r\n"]),
            ("broken", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Do.CLOSE]),
            ("timeout", [threading.Event()]),
            ("502", [status(502)]),
            ("503", [status(503)]),
            ("504", [status(504)]),
        ],
    )
    def test_on_five_hard_failures_in_a_row(self, pair, what, script):
        name = f"row-{what}"
        pair.upstream.replies[f"/{name}"] = Reply(script)
        for number in range(5):
            assert state(pair, name) == "closed", number
            with pair.client() as client, suppress(Broken, Ended):
                client.send(GET % name.encode())
                client.response()
        if isinstance(script[0], threading.Event):
            script[0].set()
        wait_state(pair, name, "open")
        assert_refused(get(pair, name))
        assert len(pair.upstream.on(f"/{name}")) == 5
        (line,) = wait_transitions(pair, name, 1)
        assert (line["before"], line["after"], line["cause"]) == ("closed", "open", "failures_in_a_row")
        assert (line["calls"], line["failures"], line["failures_in_a_row"]) == (5, 5, 5)
        assert line["host"] == f"127.0.0.1:{pair.upstream.port}"

    def test_on_a_host_that_refuses(self, pair):
        name = "row-refused"
        answers = [get(pair, name)["x-sidecar-reason"] for _ in range(6)]
        assert answers == [b"upstream_unreachable"] * 5 + [b"circuit_open"]

    def test_every_attempt_counts_and_none_is_made_once_it_is_open(self, pair):
        pair.upstream.replies["/attempts"] = Reply([status(503)])
        before = pair.sidecar.metric("retry_skipped_total", reason="breaker_open")
        first, second, third = (get(pair, "attempts") for _ in range(3))
        assert (first.status, second.status) == (503, 503)
        assert "x-sidecar-reason" not in {name for name, _ in second.fields}  # the upstream's own answer
        assert_refused(third)
        assert len(pair.upstream.on("/attempts")) == 5
        assert pair.sidecar.metric("retry_skipped_total", reason="breaker_open") == before + 2

    def test_not_where_a_good_answer_comes_between(self, pair):
        for code in [503, 503, 200, 503, 503, 404, 503, 503, 500, 503, 503]:
            pair.upstream.replies["/between"] = Reply([status(code)])
            assert get(pair, "between").status == code
        assert state(pair, "between") == "closed"

    def test_on_the_statuses_it_is_told(self, pair):
        for code in [502, 503, 504, 418, 501]:
            pair.upstream.replies["/statuses"] = Reply([status(code)])
            assert get(pair, "statuses").status == code
        assert state(pair, "statuses") == "open"

    def test_not_on_4xx(self, pair):
        for code in [400, 401, 403, 404, 408, 409, 410, 413, 422, 425, 451] * 2:
            pair.upstream.replies["/good"] = Reply([status(code)])
            assert get(pair, "good").status == code
        assert state(pair, "good") == "closed"
        assert breaker_of(pair, "good")["counts"] == {
            "calls": 22,
            "failures": 0,
            "slow_calls": 0,
            "failures_in_a_row": 0,
        }

    def test_on_half_of_at_least_minimum_calls(self, pair):
        for code in [500, 500, 429, 500, 200, 200, 200, 200, 200]:
            pair.upstream.replies["/rate"] = Reply([status(code)])
            get(pair, "rate")
        assert state(pair, "rate") == "closed"  # nine calls
        pair.upstream.replies["/rate"] = Reply([status(500)])
        get(pair, "rate")
        assert state(pair, "rate") == "open"
        (line,) = wait_transitions(pair, "rate", 1)
        assert (line["cause"], line["calls"], line["failures"]) == ("failure_rate", 10, 5)

    def test_on_slow_calls_however_good(self, pair):
        pair.upstream.replies["/slow"] = Reply([OK])
        get(pair, "slow")

        def slowly(connection, request):
            threading.Event().wait(0.05)
            connection.send(OK)

        pair.upstream.replies["/slow"] = slowly
        for _ in range(4):
            assert get(pair, "slow").status == 200
        assert state(pair, "slow") == "open"
        assert wait_transitions(pair, "slow", 1)[0]["cause"] == "slow_calls"


class TestCountsForNothing:
    def test_a_client_that_goes_away(self, pair):
        pair.upstream.replies["/gone"] = lambda connection, request: None
        for number in range(10):
            with pair.client() as client:
                client.send(GET % b"gone")
                pair.upstream.wait_request("/gone", number + 1)
                client.reset()
        eventually(lambda: len(pair.sidecar.access_lines(path="/gone")) == 10, "all have ended")
        assert state(pair, "gone") == "closed"
        assert breaker_of(pair, "gone")["counts"]["calls"] == 0
        assert pair.sidecar.metric("upstream_attempts_total", upstream="gone", outcome="cancelled") == 10

    def test_a_replay(self, pair):
        for _ in range(5):
            response = pair.request("POST", "/replays", "Idempotency-Key: once", body=b"x")
            assert response.status == 200
        assert breaker_of(pair, "replays")["counts"]["calls"] == 1


class TestHalfOpen:
    def test_begins_without_traffic_and_is_told(self, pair):
        """In the log, the metric and the admin API; and each failed probe doubles the open time."""
        pair.upstream.replies["/quiet"] = Reply([status(503)])
        get(pair, "quiet")
        assert pair.sidecar.metric("circuit_breaker_state", upstream="quiet") == 2

        open_times = []
        for seen in (1, 3, 5):
            opened, half = wait_transitions(pair, "quiet", seen + 1)[-2:]
            assert (half["before"], half["after"], half["cause"]) == ("open", "half_open", "reset_timeout")
            moments = [datetime.fromisoformat(line["time"]) for line in (opened, half)]
            open_times.append((moments[1] - moments[0]).total_seconds())
            assert pair.sidecar.metric("circuit_breaker_state", upstream="quiet") == 1
            get(pair, "quiet")
            assert wait_transitions(pair, "quiet", seen + 2)[-1]["cause"] == "probe_failed"
        for measured, expected in zip(open_times, (0.3, 0.6, 1.2), strict=True):
            assert expected * 0.9 - 0.01 <= measured <= expected * 1.1 + 1.1  # the sweep looks once a second
        labels = {"upstream": "quiet", "host": f"127.0.0.1:{pair.upstream.port}"}
        assert pair.sidecar.metric("circuit_breaker_transitions_total", to="half_open", **labels) == 3
        assert pair.sidecar.metric("circuit_breaker_transitions_total", to="open", **labels) == 4

    def test_retry_after_is_true_to_the_second(self, pair):
        pair.upstream.replies["/wait"] = Reply([status(503)])
        get(pair, "wait")
        asked = time.monotonic()
        told = int(get(pair, "wait")["retry-after"])
        pair.upstream.replies["/wait"] = Reply([OK])
        while get(pair, "wait").status != 200:
            time.sleep(0.02)
        assert told - 1 <= time.monotonic() - asked <= told + 0.1

    def test_three_of_a_hundred_reach_the_upstream(self, pair):
        pair.upstream.replies["/crowd"] = Reply([status(503)])
        get(pair, "crowd")
        wait_state(pair, "crowd", "half_open")
        pair.upstream.forget()
        go_on = threading.Event()
        pair.upstream.replies["/crowd"] = Reply([go_on, OK])
        answers = []
        thread = threading.Thread(
            target=lambda: answers.extend(crowd(pair.sidecar.port, GET % b"crowd", clients=100))
        )
        thread.start()
        eventually(
            lambda: len(pair.sidecar.access_lines(path="/crowd", status=503)) >= 98, "97 and one before"
        )
        assert breaker_of(pair, "crowd")["probes_in_flight"] == 3
        go_on.set()
        thread.join()
        assert Counter(answer.status for answer in answers) == {200: 3, 503: 97}
        refused = [answer for answer in answers if answer.status == 503]
        assert {answer.fields[b"x-sidecar-reason"] for answer in refused} == {b"circuit_open"}
        assert {answer.fields[b"retry-after"] for answer in refused} == {b"1"}
        assert len(pair.upstream.on("/crowd")) == 3
        assert state(pair, "crowd") == "closed"

    def test_clients_that_cancel_every_probe_keep_no_permit(self, pair):
        pair.upstream.replies["/cancel"] = Reply([status(503)])
        get(pair, "cancel")
        wait_state(pair, "cancel", "half_open")
        pair.upstream.forget()
        pair.upstream.replies["/cancel"] = lambda connection, request: None
        for number in range(0, 30, 3):
            clients = [pair.client() for _ in range(3)]
            for client in clients:
                client.send(GET % b"cancel")
            pair.upstream.wait_request("/cancel", number + 3)
            assert_refused(get(pair, "cancel"))
            for client in clients:
                client.reset()
            eventually(lambda: breaker_of(pair, "cancel")["probes_in_flight"] == 0, "the permits are back")
        assert state(pair, "cancel") == "half_open"
        pair.upstream.replies["/cancel"] = Reply([OK])
        assert [get(pair, "cancel").status for _ in range(3)] == [200] * 3
        assert state(pair, "cancel") == "closed"

    def test_a_result_from_before_it_opened_is_discarded(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/late"] = Reply([go_on, status(503)])
        with pair.client() as late:
            late.send(GET % b"late")
            pair.upstream.wait_request("/late")
            pair.upstream.replies["/late"] = Reply([status(503)])
            get(pair, "late")
            wait_state(pair, "late", "half_open")
            pair.upstream.replies["/late"] = Reply([OK])
            assert get(pair, "late").status == 200
            assert state(pair, "late") == "closed"
            go_on.set()
            assert late.response().status == 503
        assert state(pair, "late") == "closed"
        assert breaker_of(pair, "late")["counts"]["failures"] == 0

    def test_a_stream_is_a_success_when_it_begins(self, pair):
        pair.upstream.replies["/stream"] = Reply([status(503)])
        get(pair, "stream")
        wait_state(pair, "stream", "half_open")
        go_on = threading.Event()
        pair.upstream.replies["/stream"] = Reply([SSE + b"5\r\nevent\r\n", go_on])
        with pair.client() as client:
            client.send(GET % b"stream")
            assert client.head().status == 200
            assert state(pair, "stream") == "closed"
        go_on.set()


class TestFallback:
    def test_takes_over_while_it_is_open_until_its_own_is(self, pair):
        pair.upstream.replies["/first"] = Reply([status(503)])
        assert get(pair, "first").status == 503
        pair.upstream.forget()
        response = get(pair, "first", "X-Correlation-ID: fallback")
        assert (response.status, response.body) == (200, b"ok")
        line = pair.sidecar.access_line(correlation_id="fallback")
        assert (line["attempts"], line["breaker"], line["reason"]) == (1, "closed", None)
        never = threading.Event()
        pair.upstream.replies["/first"] = Reply([never])
        response = get(pair, "first", "X-Correlation-ID: fallback-slow")
        never.set()
        assert error_of(response)["code"] == "UPSTREAM_TIMEOUT"  # by the fallback's own 100 ms
        assert pair.sidecar.access_line(correlation_id="fallback-slow")["duration_ms"] < 5000
        assert state(pair, "second") == "open"
        assert_refused(get(pair, "first"))


class TestUnderLoad:
    def test_retries_add_a_quarter_at_most(self, pair):
        """Everything fails, and no breaker helps: the budget alone holds the retries back."""

        def fail(connection, request):
            threading.Event().wait(0.02)
            connection.send(status(503))

        pair.upstream.replies["/storm"] = fail
        before = pair.sidecar.metric("retry_skipped_total", reason="budget")
        answers = crowd(pair.sidecar.port, GET % b"storm", clients=60, each=20)
        assert Counter(answer.status for answer in answers) == {503: 1200}
        assert 1200 < len(pair.upstream.on("/storm")) <= 1200 * 1.25
        assert pair.sidecar.metric("retry_skipped_total", reason="budget") > before

    def test_a_breaker_stops_all_of_it(self, pair):
        pair.upstream.replies["/defaults"] = Reply([status(503)])
        answers = crowd(pair.sidecar.port, GET % b"defaults", clients=50, each=20)
        assert len(answers) == 1000
        assert len(pair.upstream.on("/defaults")) <= 50 * 1.25
        assert state(pair, "defaults") == "open"
        app = pair.sidecar.get("/admin/upstreams/defaults").json()
        assert (app["in_flight"], app["bulkhead"]["in_use"]) == (0, 0)


class TestSeveralHosts:
    def test_one_that_is_open_is_passed_over(self, pair):
        pair.one.reply = Reply([status(503)])
        codes = [get(pair, "hosts").status for _ in range(12)]
        assert codes == [503, 200, 503] + [200] * 9
        assert (len(pair.one.requests), len(pair.two.requests)) == (2, 10)
        pair.two.reply = Reply([status(503)])
        assert [get(pair, "hosts").status for _ in range(2)] == [503, 503]
        assert_refused(get(pair, "hosts"))
        assert (len(pair.one.requests), len(pair.two.requests)) == (2, 12)
        assert pair.sidecar.metric("circuit_breaker_state", upstream="hosts") == 4  # 2 for each

    def test_turns_are_taken(self, pair):
        for _ in range(10):
            get(pair, "turns")
        assert (len(pair.one.requests), len(pair.two.requests)) == (5, 5)

    def test_the_shortest_wait_is_told(self, pair):
        for _ in range(2):
            assert get(pair, "nowhere").status == 502
        hosts = pair.sidecar.get("/admin/upstreams/nowhere").json()["hosts"]
        shortest = min(host["breaker"]["retry_after"] for host in hosts)
        assert shortest - 1 <= int(get(pair, "nowhere")["retry-after"]) <= shortest + 1


def test_observe_shows_what_would_have_happened(pair):
    content = {"mode": "observe", "for": "1s", "reason": "trying it out"}
    pair.sidecar.ask("PUT", "/admin/upstreams/observed/breaker", json=content).raise_for_status()
    pair.upstream.reply = Reply([status(503)])
    assert [get(pair, "observed").values("x-sidecar-reason") for _ in range(6)] == [[]] * 6
    assert (state(pair, "observed"), len(pair.upstream.on("/observed"))) == ("open", 6)
    eventually(lambda: breaker_of(pair, "observed")["override"] is None, "its time is up")
    assert_refused(get(pair, "observed"))
    assert len(pair.upstream.on("/observed")) == 6
