"""What a key does, through the running sidecar with ``memory://``: claim, replay, refuse, release."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.pair import Pair
from tests.support.raw import is_replay, refusal
from tests.support.sidecar import UUID7
from tests.support.upstream import OK, Do, Reply, answer, chunked_answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("idempotency")

# By the first segment of the path.
ROUTES = {
    "required": {"required": True},
    "off": "off",
    "short": {"ttl": "1s"},
    "by-tenant": {"scope": ["X-Tenant", "Authorization"]},
    "shared": {"scope": []},
    "wait": {"on_duplicate": "wait", "wait_timeout": "10s"},
    "wait-briefly": {"on_duplicate": "wait", "wait_timeout": "300ms"},
    "keep-all": {"release_on": []},
    "keep-no-500": {"release_on": [500]},
    "cookies": {"replay_set_cookie": True},
    "deletes": {"methods": ["DELETE"]},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    routes = [
        {"name": name, "match": {"prefix": f"/{name}"}, "upstream": "app", "idempotency": settings}
        for name, settings in ROUTES.items()
    ]
    routes.append({"name": "default", "match": {"prefix": "/"}, "upstream": "app"})
    with Pair(tmp_path_factory.mktemp("idempotency"), routes=routes) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


@pytest.fixture
def key(request):
    """A key that no other test uses."""
    return f"Idempotency-Key: {request.node.name[:200].replace(' ', '-').replace(',', '').replace(';', '')}"


class Counter:
    """Answers with the number of the request, so that a second execution shows."""

    def __init__(self, *fields, status="201 Created", body=b""):
        self.executions = 0
        self._fields, self._status, self._body = fields, status, body
        self._lock = threading.Lock()

    def __call__(self, connection, request):
        connection.read_body(request)
        with self._lock:
            self.executions += 1
            body = self._body or b"execution %d" % self.executions
        connection.send(answer(body, *self._fields, status=self._status))


class TestReplay:
    def test_a_retry_gets_the_first_answer(self, pair, key):
        pair.upstream.reply = counter = Counter("X-Custom: a", "X-Custom: b", "Content-Type: text/plain")
        first = pair.request("POST", "/orders", key, body=b"order")
        again = [pair.request("POST", "/orders", key, body=b"order") for _ in range(5)]
        assert (first.status, first.body, is_replay(first)) == (201, b"execution 1", False)
        assert counter.executions == 1
        for replay in again:
            assert (replay.status, replay.body, is_replay(replay)) == (201, b"execution 1", True)
            assert replay.values("x-custom") == [b"a", b"b"]
            assert replay["content-type"] == b"text/plain"
            assert replay["x-idempotent-original-correlation-id"] == first["x-correlation-id"]
            assert replay["x-correlation-id"] != first["x-correlation-id"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    def test_methods_that_are_protected(self, pair, key, method):
        pair.upstream.reply = counter = Counter()
        assert [pair.request(method, "/m", key, body=b"").body for _ in range(2)] == [b"execution 1"] * 2
        assert counter.executions == 1

    @pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "QUERY"])
    def test_other_methods_pass_untouched(self, pair, key, method):
        pair.upstream.reply = counter = Counter()
        answers = [pair.request(method, "/m", key) for _ in range(2)]
        assert counter.executions == 2
        assert not any(is_replay(it) or "x-idempotency-status" in it for it in answers)
        assert pair.upstream.requests[0]["idempotency-key"] == key.partition(": ")[2].encode()

    def test_methods_can_be_chosen(self, pair, key):
        pair.upstream.reply = Counter()
        assert is_replay([pair.request("DELETE", "/deletes", key) for _ in range(2)][1])
        assert not is_replay([pair.request("POST", "/deletes", key, body=b"") for _ in range(2)][1])

    def test_the_upstream_sees_the_key(self, pair):
        """It may want to remove duplicates, too."""
        pair.request("POST", "/seen", 'Idempotency-Key: "quoted key"', body=b"")
        assert pair.upstream.on("/seen")[0]["idempotency-key"] == b'"quoted key"'

    @pytest.mark.parametrize(
        "script",
        [
            chunked_answer(b"one ", b"two ", b"three"),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none two three",
            b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\none two three",
        ],
        ids=["chunked", "until the end", "HTTP/1.0"],
    )
    def test_however_the_first_answer_was_framed(self, pair, key, script):
        pair.upstream.reply = Reply([script, Do.CLOSE])
        first, again = (pair.request("POST", "/f", key, body=b"") for _ in range(2))
        assert (first.body, is_replay(first)) == (b"one two three", False)
        assert (again.body, is_replay(again), again.framing) == (b"one two three", True, "length")

    def test_octets_of_every_value(self, pair, key):
        body = bytes(range(256)) * 100
        pair.upstream.reply = Reply([answer(body, "Content-Type: application/octet-stream")])
        first, again = (pair.request("POST", "/b", key, body=body) for _ in range(2))
        assert first.body == again.body == body

    @pytest.mark.parametrize(
        ("method", "status"), [("POST", "204 No Content"), ("PUT", "304 Not Modified"), ("POST", "200 OK")]
    )
    def test_answers_without_a_body(self, pair, key, method, status):
        length = "Content-Length: 0\r\n" if status == "200 OK" else ""
        pair.upstream.reply = Reply([f"HTTP/1.1 {status}\r\nX-A: 1\r\n{length}\r\n".encode()])
        with pair.client() as client:
            first, again = (client.request(method, "/n", key, body=b"") for _ in range(2))
            assert (again.status, again.body, again["x-a"], is_replay(again)) == (
                first.status,
                b"",
                b"1",
                True,
            )
            assert client.request("GET", "/next").status == int(status[:3])

    def test_never_replayed(self, pair, key):
        pair.upstream.reply = Counter(
            *("Date: Mon, 01 Jan 2024 00:00:00 GMT", "Age: 5", "Set-Cookie: a=1", "WWW-Authenticate: Basic"),
            *("X-Idempotent-Replayed: true", "X-Request-ID: theirs", "Server-Timing: a", "X-Kept: yes"),
            *("traceparent: 00-aaaa-bbbb-01", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5"),
        )
        first, again = (pair.request("POST", "/h", key, body=b"") for _ in range(2))
        assert first["set-cookie"] == b"a=1"
        assert first["www-authenticate"] == b"Basic"
        assert "x-hop" not in first
        assert not is_replay(first)  # the upstream's own word is not passed on
        dropped = ("age", "set-cookie", "www-authenticate", "server-timing", "x-hop", "keep-alive")
        assert [name for name in (*dropped, "traceparent") if name in again] == []
        assert again["x-kept"] == b"yes"
        assert again["date"] != b"Mon, 01 Jan 2024 00:00:00 GMT"
        assert again["x-request-id"] not in (b"theirs", first["x-request-id"])

    def test_cookies_where_the_route_wants_them(self, pair, key):
        pair.upstream.reply = Counter("Set-Cookie: a=1", "Set-Cookie: b=2")
        _, again = (pair.request("POST", "/cookies", key, body=b"") for _ in range(2))
        assert again.values("set-cookie") == [b"a=1", b"b=2"]

    def test_through_httpx(self, pair, key):
        pair.upstream.reply = Reply([answer(b'{"id": 1}', "Content-Type: application/json")])
        headers = {"Idempotency-Key": key.partition(": ")[2]}
        with httpx.Client(base_url=pair.sidecar.url, trust_env=False, headers=headers) as client:
            answers = [client.post("/x", json={"a": 1}) for _ in range(3)]
        assert [it.json() for it in answers] == [{"id": 1}] * 3
        assert [it.headers.get("x-idempotent-replayed") for it in answers] == [None, "true", "true"]

    def test_a_replay_on_a_connection_that_http_1_0_wants_kept(self, pair, key):
        pair.upstream.reply = Counter()
        request = (
            b"POST /old HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\nContent-Length: 0\r\n%b\r\n\r\n"
        )
        with pair.client() as client:
            for _ in range(3):
                client.send(request % key.encode())
                response = client.response("POST")
                assert (response.body, response["connection"]) == (b"execution 1", b"keep-alive")


class TestWhatIsKept:
    @pytest.mark.parametrize("status", [200, 201, 302, 400, 404, 409, 410, 422, 500, 501, 502, 504, 599])
    def test_kept(self, pair, key, status):
        pair.upstream.reply = counter = Counter(status=f"{status} X")
        first, again = (pair.request("POST", "/k", key, body=b"") for _ in range(2))
        assert (first.status, again.status, is_replay(again)) == (status, status, True)
        assert counter.executions == 1

    @pytest.mark.parametrize("status", [401, 403, 407, 408, 421, 425, 429, 503])
    def test_released(self, pair, key, status):
        """The next try reaches the upstream again; with another body, too, as the key is free."""
        pair.upstream.reply = counter = Counter(status=f"{status} X")
        responses = [pair.request("POST", "/r", key, body=b"%d" % number) for number in range(3)]
        assert {it.status for it in responses} == {status}
        assert not any(is_replay(it) for it in responses)
        assert counter.executions == 3

    def test_the_list_can_be_changed(self, pair, key):
        pair.upstream.reply = Counter(status="503 X")
        assert is_replay([pair.request("POST", "/keep-all", key, body=b"") for _ in range(2)][1])
        pair.upstream.reply = Counter(status="500 X")
        assert not is_replay([pair.request("POST", "/keep-no-500", key, body=b"") for _ in range(2)][1])

    def test_it_expires_and_a_replay_does_not_extend_it(self, pair, key):
        pair.upstream.reply = counter = Counter()
        assert not is_replay(pair.request("POST", "/short", key, body=b""))
        replays = 0
        while is_replay(pair.request("POST", "/short", key, body=b"")):
            replays += 1
            threading.Event().wait(0.1)
            assert replays < 50
        assert counter.executions == 2
        assert replays >= 5


class TestConflicts:
    @pytest.mark.parametrize(
        "other",
        [
            ("POST", "/c", b"other"),
            ("POST", "/c?q=1", b"body"),
            ("POST", "/c/d", b"body"),
            ("PUT", "/c", b"body"),
            ("POST", "/c", b""),
            ("POST", "/c", b"body "),
            ("POST", "/c", b"body", "Content-Type: text/plain"),
        ],
        ids=["body", "query", "path", "method", "empty", "longer", "type"],
    )
    def test_another_request_under_the_same_key(self, pair, key, other):
        method, target, body, *fields = other
        pair.upstream.reply = counter = Counter()
        pair.request("POST", "/c", key, body=b"body")
        response = pair.request(method, target, key, *fields, body=body)
        assert refusal(response) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert counter.executions == 1
        again = pair.request("POST", "/c", key, body=b"body")
        assert is_replay(again)

    def test_at_once_while_the_first_is_still_running(self, pair, key):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, OK])
        with pair.client() as client, ThreadPoolExecutor() as pool:
            first = pool.submit(client.request, "POST", "/run", key, body=b"a")
            pair.upstream.wait_request("/run")
            conflict = pair.request("POST", "/run", key, body=b"b")
            assert refusal(conflict) == (422, "IDEMPOTENCY_KEY_CONFLICT")
            go_on.set()
            assert first.result().status == 200

    def test_other_fields_make_no_difference(self, pair, key):
        pair.upstream.reply = Counter()
        pair.request("POST", "/c", key, "User-Agent: a", "X-A: 1", body=b"body")
        assert is_replay(pair.request("POST", "/c", key, "User-Agent: b", "Accept: x", body=b"body"))


class TestInProgress:
    def test_a_duplicate_is_told_to_come_back(self, pair, key):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, OK])
        with pair.client() as client, ThreadPoolExecutor() as pool:
            first = pool.submit(client.request, "POST", "/run", key, body=b"a")
            pair.upstream.wait_request("/run")
            duplicate = pair.request("POST", "/run", key, body=b"a")
            assert refusal(duplicate) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            assert duplicate["retry-after"] == b"1"
            go_on.set()
            assert first.result().status == 200
        assert is_replay(pair.request("POST", "/run", key, body=b"a"))
        assert len(pair.upstream.on("/run")) == 1

    def test_two_hundred_at_once_are_one_execution(self, pair, key):
        pair.upstream.reply = counter = Counter()
        with ThreadPoolExecutor(50) as pool:
            responses = list(pool.map(lambda _: pair.request("POST", "/burst", key, body=b"a"), range(200)))
        assert counter.executions == 1
        assert {it.status for it in responses} <= {201, 409}
        assert {it.body for it in responses if it.status == 201} == {b"execution 1"}
        assert sum(it.status == 201 and not is_replay(it) for it in responses) == 1

    def test_one_that_waits_gets_the_first_answer(self, pair, key):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, answer(b"waited for")])
        waited = pair.sidecar.metric("idempotency_requests_total", route="wait", result="waited")
        with ThreadPoolExecutor(20) as pool:
            first = pool.submit(pair.request, "POST", "/wait", key, body=b"a")
            pair.upstream.wait_request("/wait")
            others = [pool.submit(pair.request, "POST", "/wait", key, body=b"a") for _ in range(10)]
            conflict = pair.request("POST", "/wait", key, body=b"b")
            assert conflict.status == 422
            eventually(
                lambda: pair.sidecar.metric("http_server_active_requests", route="wait") == 11,
                "the others are waiting",
            )
            go_on.set()
            assert not is_replay(first.result())
            for other in others:
                assert (other.result().body, is_replay(other.result())) == (b"waited for", True)
        assert len(pair.upstream.on("/wait")) == 1
        results = pair.sidecar.metric("idempotency_requests_total", route="wait", result="waited")
        assert results == waited + 10

    def test_one_that_waits_takes_the_place_of_one_that_was_released(self, pair, key):
        go_on = threading.Event()
        scripts = iter([[go_on, answer(b"busy", status="503 X")], [answer(b"second")]])

        def reply(connection, request):
            Reply(next(scripts))(connection, request)

        pair.upstream.reply = reply
        with ThreadPoolExecutor() as pool:
            first = pool.submit(pair.request, "POST", "/wait", key, body=b"a")
            pair.upstream.wait_request("/wait")
            second = pool.submit(pair.request, "POST", "/wait", key, body=b"a")
            eventually(
                lambda: pair.sidecar.metric("http_server_active_requests", route="wait") == 2,
                "the other one is waiting",
            )
            go_on.set()
            assert first.result().status == 503
            assert (second.result().body, is_replay(second.result())) == (b"second", False)
        assert is_replay(pair.request("POST", "/wait", key, body=b"a"))

    def test_nobody_waits_for_ever(self, pair, key):
        go_on = threading.Event()
        pair.upstream.reply = Reply([go_on, OK])
        with ThreadPoolExecutor() as pool:
            first = pool.submit(pair.request, "POST", "/wait-briefly", key, body=b"a")
            pair.upstream.wait_request("/wait-briefly")
            second = pair.request("POST", "/wait-briefly", key, body=b"a")
            assert refusal(second) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            go_on.set()
            assert first.result().status == 200


class TestScope:
    def test_two_callers_never_see_each_others_answers(self, pair, key):
        pair.upstream.reply = counter = Counter()
        alice, bob, nobody = (
            pair.request("POST", "/s", key, *fields, body=b"a")
            for fields in (["Authorization: Bearer alice"], ["Authorization: Bearer bob"], [])
        )
        assert [it.body for it in (alice, bob, nobody)] == [b"execution 1", b"execution 2", b"execution 3"]
        again = pair.request("POST", "/s", key, "Authorization: Bearer bob", body=b"a")
        assert (again.body, is_replay(again)) == (b"execution 2", True)
        other = pair.request("POST", "/s", key, "Authorization: Bearer carol", body=b"another body")
        assert other.status == 201
        assert counter.executions == 4

    def test_routes_are_apart(self, pair, key):
        pair.upstream.reply = counter = Counter()
        pair.request("POST", "/keep-all", key, body=b"a")
        pair.request("POST", "/shared", key, body=b"a")
        assert counter.executions == 2

    def test_headers_can_be_chosen(self, pair, key):
        pair.upstream.reply = counter = Counter()
        for tenant, token, executions in [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("a", "x", 3)]:
            fields = [f"X-Tenant: {tenant}", f"Authorization: {token}"]
            pair.request("POST", "/by-tenant", key, *fields, body=b"a")
            assert counter.executions == executions

    def test_values_cannot_be_shifted_from_one_header_to_the_next(self, pair, key):
        pair.upstream.reply = counter = Counter()
        for fields in (["X-Tenant: a", "Authorization: b"], ["X-Tenant: ab"], ["X-Tenant: a", "X-Tenant: b"]):
            pair.request("POST", "/by-tenant", key, *fields, body=b"a")
        assert counter.executions == 3

    def test_all_callers_can_be_one(self, pair, key):
        pair.upstream.reply = counter = Counter()
        for token in ("a", "b"):
            pair.request("POST", "/shared", key, f"Authorization: {token}", body=b"a")
        assert counter.executions == 1


class TestRequiredAndOff:
    def test_a_missing_key_is_refused_where_one_is_required(self, pair):
        response = pair.request("POST", "/required", body=b"a")
        assert refusal(response) == (400, "IDEMPOTENCY_KEY_MISSING")
        assert pair.upstream.requests == []
        assert pair.request("GET", "/required").status == 200

    def test_a_refused_body_leaves_the_connection_usable_or_closed(self, pair):
        with pair.client() as client:
            assert client.request("POST", "/required", body=b"x" * 100_000).status == 400
            client.send(b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n")
            if client.reader.more():
                assert client.response().status == 200
        assert {it.path for it in pair.upstream.requests} <= {b"/next"}

    def test_off_says_so(self, pair, key):
        pair.upstream.reply = counter = Counter()
        responses = [pair.request("POST", "/off", key, body=b"a") for _ in range(2)]
        assert counter.executions == 2
        assert [it["x-idempotency-status"] for it in responses] == [b"unprotected"] * 2
        assert "x-idempotency-status" not in pair.request("POST", "/off", body=b"a")


def test_results_are_counted_and_logged(pair, key):
    def count(result, route="default"):
        return pair.sidecar.metric("idempotency_requests_total", route=route, result=result)

    results = ("executed", "replayed", "conflict", "invalid", "released")
    before = {result: count(result) for result in results}
    missing, unprotected = count("missing", "required"), count("unprotected", "off")
    pair.request("POST", "/count", key, "X-Correlation-ID: count-1", body=b"a")
    pair.request("POST", "/count", key, "X-Correlation-ID: count-2", body=b"a")
    pair.request("POST", "/count", key, "X-Correlation-ID: count-3", body=b"b")
    pair.request("POST", "/count", "Idempotency-Key:", "X-Correlation-ID: count-4", body=b"b")
    pair.upstream.reply = Reply([answer(status="503 X")])
    pair.request("POST", "/count", key + "-2", "X-Correlation-ID: count-5", body=b"b")
    pair.request("POST", "/required", "X-Correlation-ID: count-6", body=b"b")
    pair.request("POST", "/off", key, "X-Correlation-ID: count-7", body=b"b")
    assert {result: count(result) - before[result] for result in results} == dict.fromkeys(results, 1)
    assert (count("missing", "required"), count("unprotected", "off")) == (missing + 1, unprotected + 1)
    lines = [pair.sidecar.access_line(correlation_id=f"count-{n}")["idempotency"] for n in range(1, 8)]
    assert lines == [*results, "missing", "unprotected"]
    assert pair.sidecar.access_line(correlation_id="count-2")["attempts"] == 0
    assert pair.sidecar.metric("idempotency_store_seconds_count", op="claim") > 0


def test_a_replay_counts_for_nothing_at_the_upstream(pair, key):
    pair.upstream.reply = Counter()
    pair.request("POST", "/quiet", key, body=b"a")
    attempts = pair.sidecar.metric("upstream_attempts_total")
    replay = pair.request("POST", "/quiet", key, body=b"a")
    assert UUID7.fullmatch(replay["x-correlation-id"])
    assert pair.sidecar.metric("upstream_attempts_total") == attempts
