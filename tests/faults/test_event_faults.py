"""What becomes of events when a consumer is killed, Redis goes away, or a subscriber does."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing

import pytest

from tests.contract.redis_servers import KINDS, Server
from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import Reply, Upstream, answer
from tests.support.waiting import eventually

TYPE = "REQUEST_CREATED"
HOOK = "/hooks/request-created"


@pytest.fixture(params=KINDS)
def server(request, tmp_path):
    with closing(Server(request.param, tmp_path, "--appendonly", "yes")) as server:
        yield server


@pytest.fixture
def start(start_sidecar, upstream, server):
    def start(url=None, *, takeover="2s", expect_ready=True, folder=None, store_timeout="1s", **subscription):
        wanted = {"type": TYPE, "path": HOOK, "upstream": "app", **subscription}
        sections = config_for(
            url or upstream.url,
            store=server.url,
            store_timeout=store_timeout,
            service="requests",
            events={"subscriptions": [wanted], "takeover": takeover},
        )
        sections["upstreams"]["app"]["breaker"] = {"failure_threshold": 3, "reset_timeout": "1s"}
        if folder is not None:
            sections["spool"] = {"dir": str(folder)}
        return start_sidecar(sections, expect_ready=expect_ready)

    return start


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def publish(sidecar, content=None):
    answered = ask(sidecar, "POST", f"/events/{TYPE}", json=content or {})
    assert answered.status_code == 202, answered.text
    return answered.json()["id"]


def delivered(upstream):
    return [request["ce-id"].decode() for request in upstream.on(HOOK)]


def letters(sidecar):
    return ask(sidecar, "GET", f"/admin/dlq/{TYPE}?limit=1000").json()["items"]


def kill(sidecar):
    """SIGKILL, on purpose: closing it later must not complain."""
    sidecar.process.signal(signal.SIGKILL)
    eventually(lambda: sidecar.process.exit_code is not None, "it is dead")
    sidecar.close = lambda: None


def test_what_a_killed_consumer_had_in_its_hands_is_delivered_by_another(start, upstream):
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate, answer(b"ok")))
    first = start()
    ids = [publish(first, {"n": number}) for number in range(30)]
    upstream.wait_request(HOOK, 10)  # as many as it may deliver at once
    kill(first)
    gate.set()
    killed_at = time.monotonic()
    second = start()
    eventually(lambda: set(delivered(upstream)) == set(ids), "every event has arrived")
    assert time.monotonic() - killed_at < 10
    eventually(lambda: pending(second) == 0, "every event is acknowledged")
    assert letters(second) == []


def pending(sidecar):
    (report,) = ask(sidecar, "GET", "/admin/subscriptions").json()["items"]
    return report["pending"] + (report["lag"] or 0)


def test_an_event_that_was_being_delivered_by_a_killed_consumer_says_so(start, upstream):
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate,))
    first = start()
    publish(first)
    upstream.wait_request(HOOK)
    kill(first)
    gate.set()
    upstream.replies[HOOK] = Reply((answer(b"", status="422 Unprocessable Content"),))
    second = start()
    (record,) = eventually(lambda: letters(second), "the dead letter")
    lost, refused = record["attempts"]
    assert lost["error"].startswith("consumer lost: ")
    assert lost["spent"] is False
    assert refused["status"] == 422


def test_order_outlives_the_leader(start, upstream):
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate, answer(b"ok")))
    first = start(partition_by="/customer")
    ids = [publish(first, {"customer": 1, "n": number}) for number in range(5)]
    upstream.wait_request(HOOK)
    kill(first)
    upstream.forget()
    gate.set()
    start(partition_by="/customer")
    eventually(lambda: len(delivered(upstream)) == 5, "every event has arrived")
    assert delivered(upstream) == ids


def test_an_orderly_end_hands_over_at_once_and_dead_letters_nothing(start, upstream):
    gate = threading.Event()
    failing = Reply((answer(b"", status="503 Service Unavailable"),))
    upstream.replies[HOOK] = failing
    first = start(takeover="1h", max_attempts=3)
    ids = [publish(first, {"n": number}) for number in range(3)]
    upstream.wait_request(HOOK, 3)
    assert first.stop() == 0
    gate.set()
    upstream.forget()
    second = start(takeover="1h", max_attempts=3)
    eventually(lambda: set(delivered(upstream)) == set(ids), "every event has arrived")
    assert letters(second) == []


def test_while_redis_is_away_events_go_to_the_spool_and_leave_it_in_order(start, upstream, server):
    sidecar = start(concurrency=1, partition_by="/customer")
    ids = [publish(sidecar, {"customer": 1})]
    upstream.wait_request(HOOK)
    server.kill()
    ids += [publish(sidecar, {"customer": 1}) for _ in range(20)]
    assert sidecar.metric("events_published_total", outcome="spooled") == 20
    server.start()
    ids.append(publish(sidecar, {"customer": 1}))
    eventually(lambda: len(set(delivered(upstream))) == len(ids), "every event has arrived", within=30)
    assert list(dict.fromkeys(delivered(upstream))) == ids
    eventually(
        lambda: publish(sidecar) and sidecar.metric("events_published_total", outcome="streamed") >= 2,
        "events go to their streams again",
    )


def test_a_frozen_redis(start, upstream, server):
    sidecar = start(store_timeout="300ms")
    publish(sidecar)
    upstream.wait_request(HOOK)
    server.freeze()
    began = time.monotonic()
    ids = [publish(sidecar)]
    assert time.monotonic() - began < 10
    began = time.monotonic()
    ids.append(publish(sidecar))
    assert time.monotonic() - began < 1  # nobody waits for it a second time
    server.thaw()
    eventually(lambda: set(ids) <= set(delivered(upstream)), "every event has arrived", within=30)


def test_events_in_the_spool_outlive_a_kill(start, upstream, server, tmp_path):
    spool = tmp_path / "spool"
    first = start(folder=spool, partition_by="/customer")
    server.kill()
    ids = [publish(first, {"customer": 1}) for _ in range(5)]
    kill(first)
    server.start()
    start(folder=spool, partition_by="/customer")
    eventually(lambda: delivered(upstream) == ids, "every event has arrived, in order")


def test_a_read_only_or_full_redis(start, upstream, server):
    sidecar = start()
    publish(sidecar)
    upstream.wait_request(HOOK)
    server.command("CONFIG", "SET", "maxmemory", "1")
    full = publish(sidecar)
    assert sidecar.metric("events_published_total", outcome="spooled") == 1
    server.command("CONFIG", "SET", "maxmemory", "0")
    eventually(lambda: full in delivered(upstream), "the event has arrived")
    server.command("REPLICAOF", "127.0.0.1", "1")
    read_only = publish(sidecar)
    server.command("REPLICAOF", "NO", "ONE")
    eventually(lambda: read_only in delivered(upstream), "the event has arrived")


def test_a_stream_that_is_somebody_elses(start, upstream, server):
    sidecar = start()
    server.command("SET", "events:OTHER", "mine")
    answered = ask(sidecar, "POST", "/events/OTHER", json={"n": 1})
    assert answered.status_code == 202
    record = ask(sidecar, "GET", "/admin/dlq/OTHER").json()["items"][0]
    assert (record["reason"], record["origin"]) == ("stream_refused", {"kind": "stream"})
    path = f"/admin/dlq/OTHER/{record['id']}/retry"
    assert ask(sidecar, "POST", path).status_code == 502
    server.command("DEL", "events:OTHER")
    assert ask(sidecar, "POST", path).status_code == 200
    assert b"\r\n1-" not in server.command("XLEN", "events:OTHER")
    assert server.command("XLEN", "events:OTHER") == b":1\r\n"


def test_a_breaker_opens_and_closes_and_every_event_arrives(start):
    port = free_port()
    sidecar = start(f"http://127.0.0.1:{port}", max_attempts=2, concurrency=2)
    ids = [publish(sidecar, {"n": number}) for number in range(10)]
    eventually(lambda: sidecar.metric("circuit_breaker_state", upstream="app") == 2, "the breaker opens")
    time.sleep(1.5)  # long enough for a probe to fail
    spent = letters(sidecar)
    with Upstream(port=port) as upstream:
        eventually(lambda: len(set(delivered(upstream))) + len(spent) == 10, "every event arrives", within=40)
        assert {record["idempotency_key"] for record in letters(sidecar)} | set(delivered(upstream)) == set(
            ids
        )
    assert len(spent) <= 3  # those that had failed before the breaker opened


def test_poison_lands_once_in_the_dead_letters_although_its_consumer_is_killed(start, upstream):
    """Killed between storing the dead letter and acknowledging the event, whenever that is."""
    upstream.replies[HOOK] = Reply((answer(b"", status="422 Unprocessable Content"),))
    first = start()
    ids = {publish(first, {"n": number}) for number in range(200)}
    eventually(lambda: len(letters(first)) > 20, "some dead letters")
    kill(first)
    second = start()
    eventually(lambda: pending(second) == 0, "every event is acknowledged", within=30)
    records = letters(second)
    assert len(records) == 200
    assert {record["idempotency_key"] for record in records} == ids
