"""Two sidecars on one Redis, and everything that can happen to any of them: a key is never executed twice."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import httpx
import pytest

from sidecar.idempotency.policy import RoutePolicy
from tests.contract.redis_servers import KINDS, Server
from tests.faults.judge import Crowd, Judge
from tests.faults.sabotage import DOWN, Saboteur, kill
from tests.support.pair import STEADY
from tests.support.raw import is_replay, refusal
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import Reply, Upstream, answer
from tests.support.waiting import eventually

LEASE = 1.0
KEYS = 2000
ROUTES = {
    "open": {"on_store_down": "open"},
    "again": {"on_unknown": "reexecute"},
    "wait": {"on_duplicate": "wait", "wait_timeout": "10s"},
    "patient": {"lease": "15s"},
}

pytestmark = pytest.mark.xdist_group("idempotency faults")


def config_of(upstream_url, store_url):
    """A service's configuration; requests for ``/NAME/…`` take the route ``NAME``."""
    timing = {"lease": f"{LEASE}s", "store_timeout": "700ms"}
    config = config_for(upstream_url, service="shop", store=store_url, idempotency=timing)
    config["upstreams"]["app"] |= {**STEADY, "timeouts": {"first_byte": "1500ms"}}
    config["routes"] = [
        {"name": name, "match": {"prefix": f"/{name}"}, "upstream": "app", "idempotency": settings}
        for name, settings in ROUTES.items()
    ] + config["routes"]
    return config


class Place:
    """Two sidecars of one service before one upstream, on one Redis."""

    def __init__(self, stack, folders):
        self.upstream = stack.enter_context(Upstream())
        persistent = ("--appendonly", "yes")
        self.server = stack.enter_context(closing(Server("valkey", folders.mktemp("redis"), *persistent)))
        self.config = config_of(self.upstream.url, self.server.url)
        self.one, self.other = (
            stack.enter_context(closing(Sidecar(self.config, folders.mktemp("sidecar")))) for _ in range(2)
        )
        self.key = ""

    def post(self, sidecar, *fields, body=b"order", key="", target="/orders"):
        with sidecar.client() as client:
            return client.request("POST", target, f"Idempotency-Key: {key or self.key}", *fields, body=body)

    def record(self, route="default"):
        """Where the test's key has its record."""
        policy = RoutePolicy(service="shop", route=route)
        return f"idempotency:shop:{policy.record_id([[]], self.key.encode())}"

    def has_record(self, route="default"):
        return self.server.command("EXISTS", self.record(route)) == b":1\r\n"

    def unknown_soon(self, sidecar):
        eventually(
            lambda: refusal(self.post(sidecar)) == (409, "IDEMPOTENCY_OUTCOME_UNKNOWN"),
            "the lease has run out",
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with ExitStack() as stack:
        yield Place(stack, tmp_path_factory)


@pytest.fixture
def place(shared, request):
    shared.upstream.forget()
    for sidecar in (shared.one, shared.other):  # what the test before has done to Redis is over for both
        eventually(
            lambda sidecar=sidecar: shared.post(sidecar, key=uuid.uuid4().hex).status == 200, "it is ready"
        )
    shared.upstream.forget()
    shared.key = request.node.name.replace("[", "-").replace("]", "").replace("/", "-")
    return shared


class Gate:
    """Answers with the number of the execution once it is opened."""

    def __init__(self, upstream):
        self.executions = 0
        self.opened = threading.Event()
        upstream.reply = self

    def wait(self, executions=1):
        eventually(lambda: self.executions == executions, f"the upstream has {executions} request(s)")

    def __call__(self, connection, request):
        self.executions += 1
        body = b"execution %d" % self.executions
        Reply([self.opened, answer(body, status="201 Created")])(connection, request)


class TestSidecars:
    def test_killed_in_mid_execution(self, place, start_sidecar):
        doomed, other = start_sidecar(place.config), place.other
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, doomed)
            gate.wait()
            kill(doomed)
            assert isinstance(first.exception(), AssertionError)  # its connection broke
        assert refusal(place.post(other)) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
        assert refusal(place.post(other, body=b"another")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        gate.opened.set()
        place.unknown_soon(other)
        assert refusal(place.post(other, body=b"another")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert gate.executions == 1
        record = place.record().rpartition(":")[2]
        httpx.post(f"{other.admin}/admin/idempotency/{record}/release", json={}, trust_env=False)
        assert place.post(other).body == b"execution 2"

    def test_stopped_past_its_lease_a_late_result_lands(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one)
            gate.wait()
            place.one.process.signal(signal.SIGSTOP)
            place.unknown_soon(place.other)
            gate.opened.set()
            place.one.process.signal(signal.SIGCONT)
            assert (first.result().status, first.result().body) == (201, b"execution 1")
        again = place.post(place.other)
        assert (again.body, is_replay(again)) == (b"execution 1", True)
        assert gate.executions == 1

    def test_but_not_over_what_was_executed_again_meanwhile(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one, target="/again")
            gate.wait()
            place.one.process.signal(signal.SIGSTOP)
            time.sleep(LEASE)  # it is the store's clock that has to move on
            second = pool.submit(place.post, place.other, target="/again")
            gate.wait(2)
            gate.opened.set()
            assert second.result().body == b"execution 2"
            place.one.process.signal(signal.SIGCONT)
            late = first.result()
        assert (late.body, late["x-idempotency-status"]) == (b"execution 1", b"not-stored")
        for sidecar in (place.other, place.one):
            assert place.post(sidecar, target="/again").body == b"execution 2"

    def test_nor_over_what_an_operator_has_said_and_its_own_client_is_told(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one)
            gate.wait()
            place.one.process.signal(signal.SIGSTOP)
            place.unknown_soon(place.other)
            gate.opened.set()
            record = place.record().rpartition(":")[2]
            decision = {"status": 202, "body": "decided"}
            httpx.post(
                f"{place.other.admin}/admin/idempotency/{record}/resolve", json=decision, trust_env=False
            )
            place.one.process.signal(signal.SIGCONT)
            late = first.result()
        assert (late.body, late["x-idempotency-status"]) == (b"execution 1", b"not-stored")
        for sidecar in (place.other, place.one):
            again = place.post(sidecar)
            assert (again.status, again.body, is_replay(again)) == (202, b"decided", True)
        assert gate.executions == 1

    def test_two_hundred_at_once_are_one_execution(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor(100) as pool:
            futures = [pool.submit(place.post, it) for it in (place.one, place.other) * 100]
            gate.wait()
            gate.opened.set()
        responses = [future.result() for future in futures]
        assert gate.executions == 1
        answered = [it for it in responses if it.status == 201]
        assert {it.body for it in answered} == {b"execution 1"}
        assert sum(not is_replay(it) for it in answered) == 1
        refused = [it for it in responses if it.status != 201]
        assert {refusal(it) for it in refused} <= {(409, "DUPLICATE_REQUEST_IN_PROGRESS")}

    def test_one_that_waits_is_woken_by_the_other_sidecar(self, place):
        gate = Gate(place.upstream)
        sidecars = (place.one, place.other)
        with ThreadPoolExecutor(20) as pool:
            first = pool.submit(place.post, place.one, target="/wait")
            gate.wait()
            waiting = [pool.submit(place.post, it, target="/wait") for it in sidecars * 5]
            eventually(
                lambda: sum(it.metric("http_server_active_requests", route="wait") for it in sidecars) == 11,
                "all others wait",
            )
            gate.opened.set()
            assert not is_replay(first.result())
            assert {(it.result().body, is_replay(it.result())) for it in waiting} == {(b"execution 1", True)}
        assert place.other.metric("idempotency_requests_total", route="wait", result="waited") == 5


class TestStoreDown:
    @pytest.mark.parametrize("way", DOWN)
    def test_at_the_claim(self, place, way):
        one = place.one
        gate = Gate(place.upstream)
        gate.opened.set()
        refused = one.metric("idempotency_requests_total", result="store_down")
        end = way(place.server)
        for _ in range(2):
            response = place.post(one)
            assert refusal(response) == (503, "IDEMPOTENCY_STORE_UNAVAILABLE")
            assert int(response["retry-after"]) >= 1
        assert gate.executions == 0
        with one.client() as client:
            assert client.request("POST", "/orders", body=b"unkeyed").status == 201
        unprotected = place.post(one, target="/open")
        assert (unprotected.status, unprotected["x-idempotency-status"]) == (201, b"unprotected")
        assert one.metric("idempotency_requests_total", result="store_down") == refused + 2
        end()
        eventually(lambda: place.post(one).status == 201, "the store is back and nothing was left behind")
        assert is_replay(place.post(one))
        assert gate.executions == 3

    @pytest.mark.parametrize("way", DOWN)
    def test_at_completion(self, place, way):
        gate = Gate(place.upstream)
        not_stored = place.one.metric("idempotency_requests_total", result="not_stored")
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one, target="/patient")
            gate.wait()
            end = way(place.server)
            gate.opened.set()
            response = first.result()
        assert (response.status, response.body) == (201, b"execution 1")
        assert response["x-idempotency-status"] == b"not-stored"
        again = place.post(place.one, target="/patient")
        assert (again.body, is_replay(again)) == (b"execution 1", True)
        end()
        eventually(
            lambda: is_replay(place.post(place.other, target="/patient")), "the write has been made up for"
        )
        assert gate.executions == 1
        assert place.one.metric("idempotency_requests_total", result="not_stored") == not_stored + 1

    def test_slow_is_not_down(self, place):
        gate = Gate(place.upstream)
        gate.opened.set()
        place.server.command("CLIENT", "PAUSE", "150", "ALL")
        assert place.post(place.one).status == 201
        assert gate.executions == 1

    def test_a_restart_keeps_what_was_appended(self, place):
        Gate(place.upstream).opened.set()
        assert place.post(place.one).body == b"execution 1"
        place.server.kill()
        place.server.start()
        eventually(lambda: is_replay(place.post(place.other)), "the record has survived")


class TestStoreForgets:
    def test_scripts(self, place):
        Gate(place.upstream).opened.set()
        for number in range(3):
            assert place.server.command("SCRIPT", "FLUSH", "SYNC") == b"+OK\r\n"
            key = f"{place.key}-{number}"
            assert [is_replay(place.post(place.one, key=key)) for _ in range(2)] == [False, True]

    def test_the_record_of_a_running_request_comes_back(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one)
            gate.wait()
            place.server.command("FLUSHALL")
            assert refusal(place.post(place.one)) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            eventually(place.has_record, "it is claimed again")
            assert refusal(place.post(place.other)) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            gate.opened.set()
            assert "x-idempotency-status" not in first.result()
        assert is_replay(place.post(place.other))
        assert gate.executions == 1

    def test_or_comes_back_with_its_response(self, place):
        gate = Gate(place.upstream)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(place.post, place.one, target="/patient")
            gate.wait()
            place.server.command("FLUSHALL")
            gate.opened.set()
            assert first.result()["x-idempotency-status"] == b"not-stored"
        eventually(lambda: place.has_record("patient"), "the response is written")
        eventually(lambda: is_replay(place.post(place.other, target="/patient")), "it is replayed")
        assert gate.executions == 1

    def test_a_settled_key_is_never_executed_again_from_here(self, place):
        gate = Gate(place.upstream)
        gate.opened.set()
        assert place.post(place.one).status == 201
        place.server.command("FLUSHALL")
        for sidecar in (place.one, place.other, place.one):  # the other one hears of it from the record
            assert refusal(place.post(sidecar)) == (409, "IDEMPOTENCY_OUTCOME_UNKNOWN")
        assert gate.executions == 1


UNREADABLE = {
    "text": ("SET", "somebody else's"),
    "empty": ("SET", ""),
    "list": ("RPUSH", "a"),
    "newer": ("SET", "SI2E" + "x" * 60),
    "damaged": ("SET", "SI1C00-0123456789abcdef"),
}


@pytest.mark.parametrize("target", ["/orders", "/open"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_neither_executed_nor_touched(place, kind, target):
    record = place.record("open" if target == "/open" else "default")
    command, value = UNREADABLE[kind]
    place.server.command(command, record, value)
    before = place.server.command("DUMP", record)
    for _ in range(2):
        assert refusal(place.post(place.one, target=target)) == (503, "IDEMPOTENCY_STORE_UNAVAILABLE")
    assert place.upstream.requests == []
    assert place.server.command("DUMP", record) == before


async def test_thousands_of_keys(start_sidecar, tmp_path):
    """On the machine's own Redis, where there is one; all other tests here run on Valkey."""
    with closing(Server(KINDS[-1], tmp_path, "--appendonly", "yes")) as server:
        async with Judge() as judge:
            config = config_of(judge.url, server.url)
            sidecars = [await asyncio.to_thread(start_sidecar, config) for _ in range(2)]
            crowd = Crowd([sidecar.port for sidecar in sidecars])
            saboteur = Saboteur(sidecars, lambda port: start_sidecar(config, port=port), server)
            sabotage = asyncio.create_task(asyncio.to_thread(saboteur.work))
            await crowd.work(48, lambda: not sabotage.done() or len(judge.executions) < KEYS)
            await sabotage
    print(dict(crowd.ends), dict(crowd.told))
    assert {key: times for key, times in judge.executions.items() if times > 1} == {}
    assert {key for key, bodies in crowd.answers.items() if bodies != {f"{key} 1".encode()}} == set()
    assert crowd.ends["open"] == 0
    assert crowd.ends["settled"] > crowd.ends["unknown"] > 0
