"""What people and other programs see of dead letters in a real Redis, and what they can do to them."""

import asyncio
import shutil
import subprocess

import orjson
import pytest
from redis.asyncio import Redis

from sidecar.clock import ManualClock
from sidecar.dlq.codec import to_json
from sidecar.dlq.connect import open_redis
from sidecar.dlq.errors import DeadLetterStoreError
from sidecar.dlq.operator import Operator
from sidecar.dlq.queue import DeadLetterQueue
from sidecar.dlq.redis import RedisDeadLetterStore
from sidecar.dlq.store import QueueName, Selection
from tests.contract.redis_servers import KINDS, Server
from tests.unit.dlq.records import NOW, a_record

TYPE = "REQUEST_CREATED"
QUEUE = QueueName("requests", TYPE)


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory):
    server = Server(request.param, tmp_path_factory.mktemp(request.param))
    yield server
    server.close()


@pytest.fixture
async def client(server):
    client = Redis.from_url(server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def clock():
    return ManualClock(wall=NOW)


@pytest.fixture
async def store(server, client, clock):
    store = RedisDeadLetterStore(open_redis(server.url, timeout=5), clock=clock)
    yield store
    await store.close()


@pytest.fixture
async def dlq(server, client):
    dlq = DeadLetterQueue(redis_url=server.url, queue_prefix="dlq:requests:", max_age_days=30)
    yield dlq
    await dlq.close()


async def test_keys_are_those_that_dashboards_know(client, dlq):
    first = await dlq.enqueue(TYPE, {"destination": "Paris"}, ValueError("no"), {"correlation_id": "c-1"})
    await dlq.enqueue(TYPE, {"destination": "Rome"}, ValueError("no"))
    await dlq.enqueue("REQUEST_DELETED", {"id": 1}, ValueError("no"))
    assert sorted(await client.keys("dlq:*")) == [
        b"dlq:index",
        b"dlq:requests:REQUEST_CREATED",
        b"dlq:requests:REQUEST_DELETED",
    ]
    assert await client.hlen("dlq:requests:REQUEST_CREATED") == 2
    assert await client.smembers("dlq:index") == {b"requests:REQUEST_CREATED", b"requests:REQUEST_DELETED"}
    value = orjson.loads(await client.hget("dlq:requests:REQUEST_CREATED", first.id))
    assert (value["payload"], value["correlation_id"]) == ({"destination": "Paris"}, "c-1")


async def test_the_command_lines_of_the_monitoring_guide(server, dlq):
    """With the client program where the machine has it; the same commands through a client are above."""
    await dlq.enqueue(TYPE, 1, "error")
    await dlq.enqueue(TYPE, 2, "error")
    if shutil.which("redis-cli") is None:
        return
    cli = f"redis-cli -p {server.port}"
    counts = _shell(f'{cli} KEYS "dlq:*" | xargs -I {{}} {cli} HLEN {{}}')
    assert "2" in counts
    assert _shell(f'{cli} SMEMBERS "dlq:index"') == ["requests:REQUEST_CREATED"]


def _shell(command):
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
    return run.stdout.split()


async def test_nothing_is_left_of_an_emptied_queue(client, dlq):
    record = await dlq.enqueue(TYPE, 1, "error", correlation_id="c-1")
    await dlq.dequeue(TYPE, record.id)
    await dlq.remove(TYPE, record.id)
    assert await client.keys("*") == []


async def test_a_page_and_a_retry_cost_the_same_for_many_records_as_for_few(client, store, clock):
    """By the number of commands that the server runs, and by what each one takes."""

    async def deliver(_record):
        return

    operator = Operator(store, service="requests", redeliver=deliver, clock=clock)

    async def cost():
        before = await client.info("commandstats")
        page = await operator.page(TYPE, Selection(), limit=50)
        await operator.retry(TYPE, page.items[0].id, by="ann", reason="fixed")
        after = await client.info("commandstats")
        return {
            name: stats["calls"] - before.get(name, {"calls": 0})["calls"]
            for name, stats in after.items()
            if stats["calls"] != before.get(name, {"calls": 0})["calls"] and name != "cmdstat_info"
        }

    await _fill(client, 100)
    await cost()
    few = await cost()
    await _fill(client, 20_000)
    assert await cost() == few
    assert not {"cmdstat_hgetall", "cmdstat_hscan", "cmdstat_hkeys", "cmdstat_hvals"} & set(few)


async def _fill(client, count):
    """Records as the store writes them, many at once."""
    template = to_json(a_record())
    ids = [f"r-{n:06}" for n in range(count)]
    pipeline = client.pipeline(transaction=False)
    pipeline.hset(f"dlq:{QUEUE}", mapping={i: orjson.dumps(template | {"id": i}) for i in ids})
    pipeline.zadd(f"dlq-time:{{dlq:{QUEUE}}}", {i: int(NOW * 1e6) - n for n, i in enumerate(ids)})
    await pipeline.execute()


async def test_records_of_other_programs_get_a_place(client, store, clock):
    """A program that knows the hash alone writes into it, one record good and one not."""
    await store.add(QUEUE, a_record("ours"))
    await client.hset(f"dlq:{QUEUE}", "theirs", orjson.dumps(to_json(a_record("theirs", stored_at=NOW - 5))))
    await client.hset(f"dlq:{QUEUE}", "junk", b"{}")
    page = await store.page(QUEUE, Selection(oldest_first=True), limit=10)
    assert [(record.id, record.status) for record in page.items] == [
        ("theirs", "pending"),
        ("junk", "unreadable"),
        ("ours", "pending"),
    ]
    assert [summary.depth for summary in await store.queues()] == [3]
    operator = Operator(store, service="requests", redeliver=store.add, clock=clock)
    await operator.remove(TYPE, "junk")
    assert [summary.depth for summary in await store.queues()] == [2]


async def test_an_order_that_was_evicted_is_made_anew(client, store, clock):
    for n in range(1200):
        await store.add(QUEUE, a_record(f"r-{n:04}", stored_at=NOW - 2000 + n))
    await client.delete(f"dlq-time:{{dlq:{QUEUE}}}")
    page = await store.page(QUEUE, Selection(), limit=2)
    assert [record.id for record in page.items] == ["r-1199", "r-1198"]
    await client.delete(f"dlq-time:{{dlq:{QUEUE}}}")
    assert (await store.page(QUEUE, Selection(), limit=2)).items == ()  # mended a moment ago: not again yet
    clock.advance(61)
    assert len((await store.page(QUEUE, Selection(), limit=2)).items) == 2


async def test_places_without_records_are_cleared_away(client, store, clock):
    await store.add(QUEUE, a_record("r-1"))
    await store.add(QUEUE, a_record("r-2", stored_at=NOW - 1))
    await client.hdel(f"dlq:{QUEUE}", "r-1")
    page = await store.page(QUEUE, Selection(correlation_id="c-1"), limit=10)
    assert [record.id for record in page.items] == ["r-2"]
    assert await client.zcard(f"dlq-time:{{dlq:{QUEUE}}}") == 1
    assert [summary.depth for summary in await store.queues()] == [1]


async def test_an_index_that_names_a_queue_in_vain_is_mended(client, store):
    await client.sadd("dlq:index", "gone:REQUEST_CREATED")
    assert await store.queues() == []
    assert await client.exists("dlq:index") == 0


async def test_a_store_that_cannot_write_says_so_and_keeps_what_it_has(client, store):
    await store.add(QUEUE, a_record("r-1"))
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(DeadLetterStoreError, match=r"OOM|OutOfMemory"):
            await store.add(QUEUE, a_record("r-2"))
    finally:
        await client.config_set("maxmemory", "0")
    assert [summary.depth for summary in await store.queues()] == [1]
    await client.set("dlq:requests:TAKEN", "by someone else")
    with pytest.raises(DeadLetterStoreError, match="WRONGTYPE"):
        await store.add(QueueName("requests", "TAKEN"), a_record("r-3"))
    assert [summary.name for summary in await store.queues()] == [QUEUE]


async def test_a_store_that_is_gone_and_comes_back(tmp_path):
    server = Server("valkey", tmp_path)
    store = RedisDeadLetterStore(open_redis(server.url, timeout=0.5))
    try:
        record = a_record(stored_at=2_000_000_000.0)
        await store.add(QUEUE, record)
        server.freeze()
        with pytest.raises(DeadLetterStoreError):
            await store.get(QUEUE, "r-1")
        server.thaw()
        assert await store.get(QUEUE, "r-1") == record
        server.kill()
        with pytest.raises(DeadLetterStoreError):
            await store.get(QUEUE, "r-1")
        server.start()
        await store.add(QUEUE, record)
        assert await store.get(QUEUE, "r-1") == record
    finally:
        await store.close()
        server.close()


async def test_scripts_that_the_server_forgot_are_sent_again(client, store):
    await store.add(QUEUE, a_record())
    await client.script_flush()
    assert (await store.get(QUEUE, "r-1")).id == "r-1"


async def test_adding_and_emptying_at_once_never_hides_a_queue(client, store):
    for n in range(50):
        await store.add(QUEUE, a_record("old"))
        await asyncio.gather(store.remove(QUEUE, a_record("old")), store.add(QUEUE, a_record(f"new-{n}")))
        assert QUEUE in await store.names()
        await store.remove(QUEUE, a_record(f"new-{n}"))
