"""Dead letters while Redis is full, forgetful or shared with programs that know other things."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from contextlib import closing

import orjson
import pytest
from redis import Redis

from sidecar.dlq.codec import to_json
from tests.contract.redis_servers import KINDS, Server
from tests.support.sidecar import config_for
from tests.support.upstream import Reply, answer
from tests.support.waiting import eventually
from tests.unit.dlq.records import a_record

TYPE = "REQUEST_CREATED"
HOOK = "/hooks/request-created"
REFUSED = Reply((answer(b"", status="422 Unprocessable Content"),))


@pytest.fixture(params=KINDS)
def server(request, tmp_path):
    with closing(Server(request.param, tmp_path)) as server:
        yield server


@pytest.fixture
def client(server):
    with closing(Redis.from_url(server.url)) as client:
        yield client


@pytest.fixture
def start(start_sidecar, upstream, server):
    def start(**sections):
        subscription = {"type": TYPE, "path": HOOK, "upstream": "app"}
        events = {"subscriptions": [subscription], "takeover": "2s"}
        return start_sidecar(
            config_for(upstream.url, store=server.url, service="requests", events=events, **sections)
        )

    return start


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def publish(sidecar, content=None):
    answered = ask(sidecar, "POST", f"/events/{TYPE}", json=content or {})
    assert answered.status_code == 202, answered.text
    return answered.json()["id"]


def letters(sidecar):
    return ask(sidecar, "GET", f"/admin/dlq/{TYPE}?limit=1000").json()["items"]


def test_an_event_waits_unacknowledged_until_its_dead_letter_is_safe(start, upstream, client):
    """Redis is full at the moment of the burial; neither is anything lost nor delivered a second time."""
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate, *REFUSED.script))
    sidecar = start()
    event_id = publish(sidecar)
    upstream.wait_request(HOOK)
    client.config_set("maxmemory", "1")
    gate.set()
    sidecar.wait_log(lambda line: "dead letter" in line.get("message", ""), "the trouble is told")
    assert letters(sidecar) == []
    assert client.xpending(f"events:{TYPE}", "requests")["pending"] == 1
    client.config_set("maxmemory", "0")
    (record,) = eventually(lambda: letters(sidecar), "the dead letter")
    assert (record["idempotency_key"], len(record["attempts"])) == (event_id, 1)
    eventually(lambda: client.xpending(f"events:{TYPE}", "requests")["pending"] == 0, "it is acknowledged")
    assert len(upstream.on(HOOK)) == 1


def test_a_redis_that_forgets_everything_is_used_again(start, upstream, client):
    """Evicted or flushed: what was there is gone, which is Redis' doing; what comes later is delivered."""
    sidecar = start()
    publish(sidecar)
    upstream.wait_request(HOOK)
    client.flushall()
    later = [publish(sidecar) for _ in range(3)]
    got = eventually(
        lambda: (ids := {it["ce-id"].decode() for it in upstream.on(HOOK)}) >= set(later) and ids,
        "what came later has arrived",
    )
    assert got >= set(later)
    upstream.replies[HOOK] = REFUSED
    publish(sidecar)
    assert len(eventually(lambda: letters(sidecar), "a dead letter")) == 1


def test_monitoring_reads_what_the_sidecar_writes(start, upstream, server, client):
    upstream.replies[HOOK] = REFUSED
    sidecar = start()
    for number in range(2):
        publish(sidecar, {"n": number})
    eventually(lambda: len(letters(sidecar)) == 2, "two dead letters")
    assert sorted(client.keys("dlq:*")) == [b"dlq:index", b"dlq:requests:REQUEST_CREATED"]
    assert client.hlen("dlq:requests:REQUEST_CREATED") == 2
    assert client.smembers("dlq:index") == {b"requests:REQUEST_CREATED"}
    value = orjson.loads(client.hvals("dlq:requests:REQUEST_CREATED")[0])
    assert value["payload"] in ({"n": 0}, {"n": 1})
    assert sidecar.metric("dlq_depth", service="requests", event_type=TYPE) == 2
    assert 0 < sidecar.metric("dlq_oldest_age_seconds", service="requests", event_type=TYPE) < 60
    if shutil.which("redis-cli") is not None:
        cli = f"redis-cli -p {server.port}"
        counts = subprocess.run(
            ["sh", "-c", f'{cli} KEYS "dlq:*" | xargs -I {{}} {cli} HLEN {{}}'],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "2" in counts.stdout.split()
        index = subprocess.check_output(["sh", "-c", f'{cli} SMEMBERS "dlq:index"'], text=True)
        assert index.split() == ["requests:REQUEST_CREATED"]


def test_a_record_of_a_newer_version_is_shown_and_removed_and_nothing_else(start, upstream, client):
    sidecar = start()
    client.hset(f"dlq:requests:{TYPE}", "future", b'{"v": 2, "id": "future", "what": "nobody knows yet"}')
    client.sadd("dlq:index", f"requests:{TYPE}")
    (record,) = letters(sidecar)
    assert (record["id"], record["status"]) == ("future", "unreadable")
    path = f"/admin/dlq/{TYPE}/future"
    assert ask(sidecar, "POST", f"{path}/retry", json={}).status_code == 409
    assert ask(sidecar, "PUT", path, json={"payload": {}}).status_code == 409
    assert b"nobody knows yet" in client.hget(f"dlq:requests:{TYPE}", "future")
    assert upstream.requests == []
    assert ask(sidecar, "DELETE", path).status_code == 200
    assert letters(sidecar) == []


def test_records_are_kept_for_max_age(start, client):
    now = time.time()
    for record_id, age in (("old", 90), ("young", 30)):
        record = to_json(a_record(record_id, stored_at=now - age))
        client.hset(f"dlq:requests:{TYPE}", record_id, orjson.dumps(record))
    client.sadd("dlq:index", f"requests:{TYPE}")
    sidecar = start(dead_letters={"max_age": "1m"})
    assert [record["id"] for record in letters(sidecar)] == ["young"]
    assert sidecar.metric("dlq_depth", service="requests", event_type=TYPE) == 1
    assert ask(sidecar, "GET", f"/admin/dlq/{TYPE}/old").status_code == 404


def test_where_nothing_takes_an_event_its_publisher_is_told(start, server, upstream):
    """Redis is away and the spool's disk is gone: a 503, and nothing of the event is kept."""
    sidecar = start(spool={"dir": "/dev/null/spool"})
    publish(sidecar)
    upstream.wait_request(HOOK)
    server.kill()
    answered = ask(sidecar, "POST", f"/events/{TYPE}", json={"lost": True})
    assert (answered.status_code, answered.json()["error"]["code"]) == (503, "EVENTS_UNAVAILABLE")
    assert int(answered.headers["retry-after"]) >= 1
    assert sidecar.metric("events_published_total", outcome="refused") == 1
    server.start()
    eventually(
        lambda: ask(sidecar, "POST", f"/events/{TYPE}", json={}).status_code == 202, "it is published again"
    )
