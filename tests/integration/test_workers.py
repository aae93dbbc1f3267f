"""``workers`` above 1: several processes that clients, upstreams, operators and scrapers take for one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.contract.redis_servers import Server
from tests.integration.test_drain import refuses
from tests.integration.test_run import run_sidecar
from tests.support.messages import Broken, Ended
from tests.support.ports import free_port
from tests.support.processes import ROOT
from tests.support.raw import Client, error_of
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import OK, Do, Reply, Upstream, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("workers")

WORKERS = 2
LOAD = "http_requests_total"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    server = Server("valkey", tmp_path_factory.mktemp("store"))
    yield server.url
    server.close()


def settings(url, store, **sections):
    app = {"url": url, **sections.pop("app", {})}
    return config_for(url) | {"store": store, "workers": WORKERS, "upstreams": {"app": app}, **sections}


@pytest.fixture
def config(store, upstream):
    return partial(settings, upstream.url, store)


@pytest.fixture
def sidecar(start_sidecar, config):
    return start_sidecar(config())


def children_of(sidecar):
    pid = sidecar.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def workers_of(sidecar):
    """Process ids by the worker's number, once the log has arrived: it may be later than what it tells of."""

    def told():
        return {line["worker"]: line["pid"] for line in sidecar.logs() if line["event"] == "worker started"}

    eventually(lambda: len(told()) == WORKERS, "each worker has been started")
    return told()


def runs(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ends_of_workers(sidecar):
    return [line for line in sidecar.logs() if line["event"] == "worker ended"]


@contextlib.contextmanager
def held_up(sidecar, config):
    """A reload that waits for worker 1, while a successor of worker 2 waits for its end; the new port."""
    other = free_port()
    before = workers_of(sidecar)
    listeners = [("ingress", sidecar.port), ("more", other)]
    sidecar.write(config(listeners=[{"name": name, "bind": f"127.0.0.1:{port}"} for name, port in listeners]))
    os.kill(before[1], signal.SIGSTOP)
    try:
        sidecar.process.signal(signal.SIGHUP)
        eventually(lambda: listens(other), "worker 1 is handed its socket")
        os.kill(before[2], signal.SIGKILL)
        successors = lambda: children_of(sidecar) - set(before.values())  # noqa: E731
        eventually(lambda: any(map(has_loop, successors())), "its successor waits to be told what to do")
        yield other
    finally:
        os.kill(before[1], signal.SIGCONT)


def has_loop(pid):
    with contextlib.suppress(OSError):
        return any(it.readlink().name == "anon_inode:[eventpoll]" for it in Path(f"/proc/{pid}/fd").iterdir())
    return False


def listens(port):
    with contextlib.suppress(ConnectionRefusedError), Client(("127.0.0.1", port)):
        return True
    return False


def get_many(sidecar, count, path="/"):
    """So many GETs at once, each on a connection of its own: their statuses, counted."""

    def get(_):
        with Client(sidecar.address) as client:
            return client.request("GET", path).status

    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(get, range(count)))


async def soon(condition, what):
    await asyncio.to_thread(eventually, condition, what)


def upstream_of(sidecar):
    return sidecar.get("/admin/upstreams/app").json()


def put(sidecar, path, content):
    return sidecar.ask("PUT", path, json=content)


@pytest.fixture(scope="module")
def shared(store, tmp_path_factory):
    """A sidecar that several tests use, one after another, and its upstream."""
    with Upstream() as upstream:
        config = settings(upstream.url, store, service="shared")
        with closing(Sidecar(config, tmp_path_factory.mktemp("shared"))) as sidecar:
            yield sidecar, upstream


class TestAsOne:
    @pytest.fixture
    def upstream(self, shared):
        shared[1].forget()
        return shared[1]

    @pytest.fixture
    def sidecar(self, shared):
        yield shared[0]
        for mode in ("forced_closed", "auto"):
            override = {"mode": mode, "for": "1m", "reason": "for the next test"}
            assert put(shared[0], "/admin/upstreams/app/breaker", override).status_code == 200

    def test_connections_spread_and_figures_add_up(self, sidecar, upstream):
        figures = (LOAD, "http_request_duration_ms_count")
        before = [sidecar.metric(name) for name in figures]
        clients = [sidecar.client() for _ in range(24)]
        for client in clients:
            assert client.request("GET", "/a").status == 200
        assert [sidecar.metric(name) for name in figures] == [count + 24 for count in before]
        assert sidecar.metric("process_resident_memory_bytes") > 3 * 15e6
        host = upstream_of(sidecar)["hosts"][0]
        assert host["connections"]["open"] >= WORKERS
        assert len({id(upstream.connection_of(request)) for request in upstream.on("/a")}) == WORKERS
        status = sidecar.get("/admin/status").json()
        assert (status["workers"], status["ready"], status["in_flight"]) == (WORKERS, True, 0)
        assert children_of(sidecar) == set(workers_of(sidecar).values())
        for client in clients:
            client.close()

    def test_a_loop_is_known_whichever_worker_it_comes_back_to(self, sidecar, upstream):
        assert get_many(sidecar, 1) == {200: 1}
        (via,) = upstream.requests[-1].values("via")
        clients = [sidecar.client() for _ in range(16)]
        statuses = [client.request("GET", "/", f"Via: {via.decode()}").status for client in clients]
        for client in clients:
            client.close()
        assert statuses == [508] * 16

    def test_what_is_in_flight_is_counted_over_all(self, sidecar, upstream):
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(get_many, sidecar, 8)
            eventually(lambda: len(upstream.requests) == 8, "all are at the upstream")
            assert sidecar.get("/admin/status").json()["in_flight"] == 8
            assert upstream_of(sidecar)["in_flight"] == 8
            assert sidecar.metric("bulkhead_in_use") == 8
            go_on.set()
            assert answers.result() == {200: 8}
        eventually(lambda: upstream_of(sidecar)["in_flight"] == 0, "all permits are back")

    def test_the_breaker_opens_for_all_after_five_failures(self, sidecar, upstream):
        upstream.reply = Reply([Do.CLOSE])
        clients = [sidecar.client() for _ in range(16)]
        codes = [error_of(client.request("POST", "/", body=b""))["code"] for client in clients]
        assert codes == ["UPSTREAM_UNREACHABLE"] * 5 + ["CIRCUIT_OPEN"] * 11
        assert sidecar.metric("circuit_breaker_state", upstream="app") == 2
        for client in clients:
            client.close()

    def test_a_key_executes_once(self, sidecar, upstream):
        def pay(_):
            with sidecar.client() as client:
                return client.request("POST", "/pay", "Idempotency-Key: k1", body=b"{}").status

        with ThreadPoolExecutor(16) as pool:
            statuses = Counter(pool.map(pay, range(16)))
        assert set(statuses) <= {200, 409}
        assert len(upstream.on("/pay")) == 1
        items = sidecar.get("/admin/idempotency").json()["items"]
        assert [item["state"] for item in items if item["route"] == "default"].count("COMPLETED") >= 1

    def test_an_override_is_obeyed_by_all(self, sidecar, upstream):
        path = "/admin/upstreams/app/breaker"
        assert put(sidecar, path, {"mode": "forced_open", "for": "5m", "reason": "drill"}).status_code == 200
        assert get_many(sidecar, 12) == {503: 12}
        assert put(sidecar, path, {"mode": "auto", "reason": "over"}).status_code == 200
        assert get_many(sidecar, 12) == {200: 12}
        assert len(upstream.requests) == 12

    def test_the_log_level_changes_in_all(self, sidecar):
        assert put(sidecar, "/admin/log-level", {"level": "warning"}).status_code == 200
        get_many(sidecar, 12, "/quiet")
        assert put(sidecar, "/admin/log-level", {"level": "info"}).status_code == 200
        get_many(sidecar, 12, "/told")
        eventually(lambda: len(sidecar.access_lines(path="/told")) == 12, "all are told of")
        assert sidecar.access_lines(path="/quiet") == []


class TestGuards:
    def test_permits_hold_in_total(self, start_sidecar, config, upstream):
        bounds = {"max_concurrent": 5, "max_queue": 3, "queue_timeout": "30s"}
        sidecar = start_sidecar(config(app={"bulkhead": bounds}))
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(get_many, sidecar, 12)
            eventually(lambda: upstream_of(sidecar)["bulkhead"]["waiting"] == 3, "the queue is full")
            eventually(lambda: sidecar.metric("bulkhead_rejected_total") == 4, "the rest is refused")
            assert len(upstream.requests) == 5
            go_on.set()
            assert answers.result() == {200: 8, 503: 4}
        bulkhead = upstream_of(sidecar)["bulkhead"]
        assert [bulkhead[name] for name in ("limit", "in_use", "waiting", "streams")] == [5, 0, 0, 0]

    def test_a_host_that_fails_its_checks_is_out_for_all(self, start_sidecar, config, upstream):
        with Upstream() as other:
            health = {"path": "/health", "interval": "100ms", "timeout": "2s"}
            other.replies["/health"] = Reply([answer(status="503 Unwell")])
            upstreams = {"app": {"urls": [upstream.url, other.url], "health": health}}
            sidecar = start_sidecar(config(upstreams=upstreams))
            checked = lambda: [host["healthy"] for host in upstream_of(sidecar)["hosts"]]  # noqa: E731
            eventually(lambda: checked() == [True, False], "one host is out")
            assert get_many(sidecar, 12) == {200: 12}
            assert {request.path for request in other.requests} == {b"/health"}


class TestMessages:
    """What is kept or sent on its own account, whichever process it began in."""

    def test_a_subscription_gets_each_event_once(self, start_sidecar, config, upstream):
        subscription = {"type": "PAID", "path": "/hooks/paid", "upstream": "app"}
        sidecar = start_sidecar(config(service="events", events={"subscriptions": [subscription]}))
        ids = [sidecar.ask("POST", "/events/PAID", json={"n": n}).json()["id"] for n in range(8)]
        upstream.wait_request("/hooks/paid", 8)
        eventually(lambda: sidecar.metric("event_deliveries_total") == 8, "all are acknowledged")
        assert sorted(it["ce-id"].decode() for it in upstream.on("/hooks/paid")) == sorted(ids)

    def test_dead_letters_of_all_workers_are_in_one_place(self, start_sidecar, config, upstream):
        route = {"name": "kept", "match": {"prefix": "/"}, "upstream": "app", "dead_letter": True}
        sidecar = start_sidecar(config(service="letters", routes=[route]))
        override = {"mode": "forced_open", "for": "1m", "reason": "drill"}
        assert put(sidecar, "/admin/upstreams/app/breaker", override).status_code == 200
        kept = set()
        for _ in range(8):
            with sidecar.client() as client:
                kept.add(client.request("POST", "/pay", body=b"{}")["x-dead-letter-id"].decode())
        items = sidecar.get("/admin/dlq/HTTP_REQUEST").json()["items"]
        assert {item["id"] for item in items} == kept
        assert sidecar.metric("dlq_depth", event_type="HTTP_REQUEST") == 8
        assert put(sidecar, "/admin/upstreams/app/breaker", {"mode": "auto"}).status_code == 200
        url = "/admin/dlq/HTTP_REQUEST/retry"
        assert sidecar.ask("POST", url, json={"reason": "over"}, timeout=30).status_code == 200
        assert len(upstream.on("/pay")) == 8

    def test_audit_rows_of_all_workers_wait_in_one_spool(self, start_sidecar, config, upstream):
        sources = {"request_id": "request:/id", "new_value": "request:", "changed_by_id": "header:X-User-ID"}
        audit = {**sources, "changed_by_type": "USER", "mode": "required"}
        route = {"name": "paid", "match": {"prefix": "/"}, "upstream": "app", "audit": audit}
        sidecar = start_sidecar(config(service="audited", routes=[route]))
        user = "X-User-ID: 3f2504e0-4f89-41d3-9a0c-0305e82c3301"
        for n in range(8):
            body = b'{"id": "3f2504e0-4f89-41d3-9a0c-0305e82c33%02d"}' % n
            with sidecar.client() as client:
                content = "Content-Type: application/json"
                assert client.request("POST", "/pay", user, content, body=body).status == 200
        eventually(lambda: sidecar.metric("audit_spool_depth") == 8, "all rows wait")
        for pid in workers_of(sidecar).values():
            os.kill(pid, signal.SIGKILL)
        sidecar.wait_ready()
        eventually(lambda: sidecar.metric("audit_spool_depth") == 8, "they still do")


class TestReload:
    def test_a_new_configuration_reaches_all(self, sidecar, config, upstream):
        other = free_port()
        listeners = [
            {"name": "ingress", "bind": f"127.0.0.1:{sidecar.port}"},
            {"name": "more", "bind": f"127.0.0.1:{other}"},
        ]
        with sidecar.client() as old:
            assert old.request("GET", "/").status == 200
            sidecar.write(config(listeners=listeners, app={"breaker": {"failure_threshold": 2}}))
            sidecar.reload()
            assert sidecar.get("/admin/status").json()["configuration"] == {"mistakes": []}
            assert sidecar.metric("config_reloads_total") == 1
            assert old.request("GET", "/").status == 200
        upstream.reply = Reply([Do.CLOSE])
        codes = []
        for _ in range(8):
            with Client(("127.0.0.1", other)) as client:
                codes.append(error_of(client.request("POST", "/", body=b""))["code"])
        assert codes == ["UPSTREAM_UNREACHABLE"] * 2 + ["CIRCUIT_OPEN"] * 6

    def test_a_successor_serves_by_what_is_in_force(self, sidecar, config):
        sidecar.write(config(routes=[{"name": "only", "match": {"path": "/only"}, "upstream": "app"}]))
        sidecar.reload()
        before = workers_of(sidecar)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not set(before.values()) & set(workers_of(sidecar).values()), "replaced")
        assert get_many(sidecar, 8, "/other") == {404: 8}
        assert get_many(sidecar, 8, "/only") == {200: 8}

    def test_one_that_is_just_starting_begins_by_it(self, sidecar, config):
        with held_up(sidecar, config) as other:
            pass
        eventually(lambda: sidecar.metric("config_reloads_total") == 1, "it is in force")
        sidecar.wait_ready()
        assert [line["problem"] for line in ends_of_workers(sidecar)] == ["signal 9"]
        for _ in range(8):
            with Client(("127.0.0.1", other)) as client:
                assert client.request("GET", "/").status == 200

    def test_one_that_is_ending_does_not_stand_in_its_way(self, sidecar, config, upstream):
        other = free_port()
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        clients = [sidecar.client() for _ in range(16)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: len(upstream.requests) == 16, "both have work")
        os.kill(workers_of(sidecar)[1], signal.SIGTERM)
        sidecar.wait_log(lambda line: line["event"] == "draining", "it is ending")
        sidecar.write(config(listeners=[{"name": "ingress", "bind": f"127.0.0.1:{other}"}]))
        sidecar.reload()
        assert sidecar.get("/admin/status").json()["configuration"] == {"mistakes": []}
        go_on.set()
        for client in clients:
            assert client.response().status == 200
            client.close()
        eventually(lambda: len(ends_of_workers(sidecar)) == 1, "it has ended")
        sidecar.wait_ready()
        for _ in range(8):
            with Client(("127.0.0.1", other)) as client:
                assert client.request("GET", "/").status == 200

    def test_an_address_that_is_taken_changes_nothing(self, sidecar, config, upstream):
        listeners = [
            {"name": "ingress", "bind": f"127.0.0.1:{sidecar.port}"},
            {"name": "more", "bind": f"127.0.0.1:{upstream.port}"},
        ]
        sidecar.write(config(listeners=listeners, routes=[]))
        sidecar.reload()
        assert str(upstream.port) in sidecar.get("/admin/status").json()["configuration"]["mistakes"][0]
        assert get_many(sidecar, 8) == {200: 8}

    def test_a_certificate_that_cannot_be_read_changes_nothing(self, sidecar, config, tmp_path):
        (tmp_path / "empty.pem").write_text("")
        tls = {"cert": str(tmp_path / "empty.pem"), "key": str(tmp_path / "empty.pem")}
        listeners = [{"name": "ingress", "bind": f"127.0.0.1:{sidecar.port}", "tls": tls}]
        sidecar.write(config(listeners=listeners))
        sidecar.reload()
        assert len(sidecar.get("/admin/status").json()["configuration"]["mistakes"]) == 1
        assert get_many(sidecar, 8) == {200: 8}


class TestDeaths:
    def test_it_is_ready_when_all_are(self, sidecar):
        victim = workers_of(sidecar)[1]
        os.kill(victim, signal.SIGSTOP)
        try:
            assert sidecar.get("/readyz").status_code == 200
            assert sidecar.get("/metrics").status_code == 200
        finally:
            os.kill(victim, signal.SIGCONT)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: sidecar.get("/readyz").status_code == 503, "one is missing", every=0.005)
        eventually(lambda: sidecar.get("/readyz").status_code == 200, "it is replaced")

    def test_a_worker_that_is_killed_is_replaced_and_others_do_not_notice(self, sidecar, upstream):
        """Its own clients are cut; whoever connects meanwhile is served by another."""
        clients = [sidecar.client() for _ in range(16)]
        for client in clients:
            assert client.request("GET", "/").status == 200
        total = sidecar.metric(LOAD, status_code="200")
        before = workers_of(sidecar)
        os.kill(before[1], signal.SIGKILL)
        eventually(lambda: not runs(before[1]), "the kernel has cleared up after it", every=0.001)
        assert get_many(sidecar, 20) == {200: 20}
        alive = 0
        for client in clients:
            with contextlib.suppress(Ended, Broken, OSError):
                alive += client.request("GET", "/").status == 200
            client.close()
        assert 0 < alive < 16
        line = sidecar.wait_log(lambda line: line["event"] == "worker ended", "its end")
        assert (line["worker"], line["problem"]) == (1, "signal 9")
        eventually(lambda: workers_of(sidecar)[1] != before[1], "it is replaced")
        assert len(children_of(sidecar)) == WORKERS
        assert sidecar.metric(LOAD, status_code="200") >= total + 20

    def test_what_it_held_is_given_back(self, start_sidecar, config, upstream):
        sidecar = start_sidecar(config(app={"bulkhead": {"max_concurrent": 4, "max_queue": 0}}))
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        clients = [sidecar.client() for _ in range(4)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        eventually(lambda: len(upstream.requests) == 4, "all permits are taken")
        assert get_many(sidecar, 3) == {503: 3}
        for pid in workers_of(sidecar).values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: upstream_of(sidecar)["bulkhead"]["in_use"] == 0, "all permits are free")
        sidecar.wait_ready()
        upstream.reply = Reply()
        go_on.set()
        assert get_many(sidecar, 3) == {200: 3}
        for client in clients:
            client.close()

    def test_a_worker_that_is_told_to_end_finishes_first(self, sidecar, upstream):
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        with sidecar.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            upstream.wait_request("/slow")
            before = workers_of(sidecar)
            for pid in before.values():
                os.kill(pid, signal.SIGTERM)
            eventually(lambda: any(not runs(pid) for pid in before.values()), "the idle one has ended")
            go_on.set()
            assert client.response().status == 200
        eventually(lambda: not set(before.values()) & set(workers_of(sidecar).values()), "replaced")
        assert get_many(sidecar, 8) == {200: 8}

    def test_without_the_first_process_there_are_no_workers(self, start_sidecar, config, tmp_path):
        sidecar = start_sidecar(config())
        pids = workers_of(sidecar).values()
        sidecar.process.signal(signal.SIGKILL)
        eventually(lambda: not any(map(runs, pids)), "they have ended")
        # They may be told of its end before the system has closed its sockets.
        eventually(lambda: refuses(sidecar), "nobody listens any more")
        sidecar.process.kill()
        sidecar.close = lambda: None

    def test_nor_is_there_one_that_was_just_starting(self, start_sidecar, config):
        sidecar = start_sidecar(config())
        with held_up(sidecar, config):
            pids = children_of(sidecar)
            assert len(pids) == WORKERS
            sidecar.process.signal(signal.SIGKILL)
        eventually(lambda: not any(map(runs, pids)), "they have ended")
        sidecar.process.kill()
        sidecar.close = lambda: None

    def test_workers_that_cannot_start_end_the_sidecar(self, store, upstream, tmp_path):
        """As with a broken installation: here, each ends before it is told what to do."""
        breaking = "import os, sys\nif 'sidecar.workers.process' in sys.orig_argv: os._exit(3)\n"
        (tmp_path / "sitecustomize.py").write_text(breaking)
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        flags = ["--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"]
        done = run_sidecar(
            "run", "--upstream", upstream.url, "--workers", "2", "--store", store, *flags, env=env
        )
        assert done.returncode == 1
        assert "does not start: exit code 3" in done.stderr
        assert done.stdout.count('"worker ended"') <= 8
        assert "Traceback" not in done.stdout + done.stderr


class TestDrain:
    async def test_requests_in_flight_are_not_lost(self, sidecar, upstream):
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        limits = httpx.Limits(max_connections=60)
        pids = workers_of(sidecar).values()
        options = {"base_url": sidecar.url, "trust_env": False, "timeout": 30, "limits": limits}
        async with httpx.AsyncClient(**options) as client:
            tasks = [asyncio.create_task(client.get(f"/{number}")) for number in range(60)]
            await soon(lambda: len(upstream.requests) == 60, "all of them are at the upstream")
            sidecar.process.signal(signal.SIGTERM)
            await soon(lambda: sidecar.get("/readyz").status_code == 503, "it is not ready any more")
            await soon(lambda: refuses(sidecar), "it takes no further connection")
            go_on.set()
            answers = await asyncio.gather(*tasks)
        assert {(it.status_code, it.headers["connection"]) for it in answers} == {(200, "close")}
        assert await asyncio.to_thread(sidecar.process.wait) == 0
        assert not any(map(runs, pids))
        assert len(sidecar.access_lines(status=200)) == 60

    def test_told_to_all_processes_at_once_and_more_than_once(self, sidecar, upstream):
        """As service managers do. Workers may have ended before the first process knows why."""
        go_on = threading.Event()
        upstream.reply = Reply([go_on, OK])
        with sidecar.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            upstream.wait_request("/slow")
            pids = workers_of(sidecar).values()
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            eventually(lambda: any(not runs(pid) for pid in pids), "the idle one has ended", every=0.001)
            for _ in range(3):
                sidecar.process.signal(signal.SIGTERM)
            eventually(lambda: "draining" in sidecar.get("/readyz").text, "the first process ends as well")
            go_on.set()
            assert client.response().status == 200
        assert sidecar.process.wait() == 0
        assert not any(map(runs, pids))

    def test_by_the_admin_port(self, sidecar):
        response = sidecar.ask("POST", "/admin/drain", json={"reason": "over"})
        assert response.status_code == 202
        assert sidecar.get("/readyz").status_code == 503
        assert sidecar.process.wait() == 0

    def test_what_does_not_end_in_time_is_cut_off(self, start_sidecar, config, upstream):
        sidecar = start_sidecar(config(drain_timeout="300ms"))
        upstream.reply = Reply([never := threading.Event()])
        with sidecar.client() as client:
            client.send(b"GET /hang HTTP/1.1\r\nHost: test\r\n\r\n")
            upstream.wait_request("/hang")
            began = time.monotonic()
            assert sidecar.stop() == 0
            assert time.monotonic() - began < 5
            never.set()
