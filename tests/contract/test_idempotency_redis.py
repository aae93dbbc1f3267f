"""The Redis store when something is wrong: with real servers, and a wire that loses things."""

import asyncio
import itertools
import os
import time
from contextlib import closing, suppress

import pytest

from sidecar.idempotency.claim import Claim
from sidecar.idempotency.core import ForeignRecordError, Loss, NewerRecordError
from sidecar.idempotency.record import Record, Response
from sidecar.idempotency.redis import RedisIdempotencyStore
from sidecar.idempotency.store import Granted, Settled, StoreError
from tests.contract.redis_servers import KINDS, Cluster, Sentinels, Server
from tests.contract.wire import Wire
from tests.support.ports import free_port

RESPONSE = Response(201, ((b"Location", b"/1"),), b"body")
numbers = itertools.count()


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.xdist_group(f"{kind} alone")) for kind in KINDS],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def shared(kind, tmp_path_factory):
    server = Server(kind, tmp_path_factory.mktemp(kind))
    yield server
    server.close()


@pytest.fixture
def server(kind, tmp_path):
    server = Server(kind, tmp_path)
    yield server
    server.close()


@pytest.fixture
async def wire(shared):
    wire = Wire(shared.port)
    await wire.open()
    yield wire
    wire.silent = False
    await wire.close()


@pytest.fixture
async def open_store():
    stores = []

    def open_store(url, **options):
        options.setdefault("key_prefix", f"idempotency:{next(numbers)}:")
        stores.append(RedisIdempotencyStore(url, **options))
        return stores[-1]

    yield open_store
    for store in stores:
        await store.aclose()


def new_claim(**changes):
    claim = Claim(
        os.urandom(32).hex(), os.urandom(16), b"\x01\x01" + os.urandom(32), "orders", "c-1", 60.0, 600.0
    )
    return claim.replace(**changes)


async def eventually(check, within=20.0):
    """Wait for ``check`` to hold; a store that cannot be used yet counts as not."""
    async with asyncio.timeout(within):
        while True:
            with suppress(StoreError):
                if await check():
                    return
            await asyncio.sleep(0.02)


class TestWhatStandsUnderTheKey:
    async def test_values_of_others_are_neither_executed_nor_touched(self, shared, open_store):
        store = open_store(shared.url, key_prefix="p:")
        for write in ("SET", "LPUSH"):
            claim = new_claim()
            shared.command(write, f"p:{claim.record_id}", "something else")
            for look in (store.claim(claim), store.get(claim.record_id)):
                with pytest.raises(ForeignRecordError):
                    await look
            assert await store.complete(claim, RESPONSE) is Settled.LOST
            assert await store.release(claim) is Settled.LOST
            assert await store.mark_unknown(claim, Loss.RESET) is Settled.LOST
            assert b"something else" in shared.command("DUMP", f"p:{claim.record_id}") or write == "SET"

    async def test_nor_are_records_of_a_newer_release(self, shared, open_store):
        store = open_store(shared.url, key_prefix="p:")
        claim = new_claim()
        await store.claim(claim)
        shared.command("SETRANGE", f"p:{claim.record_id}", 2, "2")
        for look in (store.claim(claim), store.get(claim.record_id)):
            with pytest.raises(NewerRecordError):
                await look
        for write in (store.complete(claim, RESPONSE), store.release(claim), store.free(claim.record_id)):
            assert await write is Settled.LOST
        assert claim.record_id not in {record.id for record in (await store.page()).items}

    async def test_nothing_is_left_without_an_expiry(self, shared, open_store):
        store = open_store(shared.url, key_prefix="ttl:")
        claims = [new_claim() for _ in range(6)]
        for claim in claims:
            await store.claim(claim)
        await store.complete(claims[0], RESPONSE)
        await store.mark_unknown(claims[1], Loss.RESET)
        await store.mark_unknown(claims[2], Loss.RESET)
        await store.free(claims[2].record_id)
        await store.mark_unknown(claims[3], Loss.RESET)
        await store.resolve(claims[3].record_id, RESPONSE, 600.0)
        await store.amend(claims[4])
        await store.renew([claims[5]])
        await store.claim(new_claim(record_id=claims[5].record_id), watched=True)
        for claim, expected in zip(claims, [600, 600, 600, 600, 660, 660], strict=True):
            left = int(shared.command("PTTL", f"ttl:{claim.record_id}")[1:]) / 1000
            assert expected - 10 < left <= expected


class TestScripts:
    async def test_scripts_that_were_flushed_are_brought_again(self, shared, open_store):
        store = open_store(shared.url)
        for _ in range(2):
            claims = [new_claim() for _ in range(10)]
            assert set(await asyncio.gather(*map(store.claim, claims))) == {Granted.FRESH}
            shared.command("SCRIPT", "FLUSH")
            assert await store.renew(claims) == [Settled.DONE] * 10
            shared.command("SCRIPT", "FLUSH")
            assert await store.complete(claims[0], RESPONSE) is Settled.DONE
            shared.command("SCRIPT", "FLUSH")
            assert len((await store.page(limit=1)).items) == 1


class TestRefusals:
    async def test_a_server_that_is_not_there(self, open_store):
        store = open_store(f"redis://127.0.0.1:{free_port()}")
        started = time.monotonic()
        for _ in range(5):
            with pytest.raises(StoreError) as caught:
                await store.claim(new_claim())
            assert (caught.value.reason, caught.value.maybe_done) == ("refused", False)
        assert time.monotonic() - started < 5.0

    async def test_a_server_that_is_full(self, server, open_store):
        store = open_store(server.url)
        done = new_claim()
        await store.claim(done)
        await store.complete(done, RESPONSE)
        running = new_claim()
        await store.claim(running)
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError) as caught:
            await store.claim(new_claim())
        assert (caught.value.reason, caught.value.maybe_done) == ("full", False)
        with pytest.raises(StoreError):
            await store.complete(running, RESPONSE)
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert await store.complete(running, RESPONSE) is Settled.DONE
        assert (await store.get(done.record_id)).response == RESPONSE

    async def test_a_server_that_takes_no_writes(self, server, open_store):
        store = open_store(server.url)
        await store.check()
        server.command("REPLICAOF", "127.0.0.1", "1")
        server.command("CONFIG", "SET", "replica-serve-stale-data", "yes")
        with pytest.raises(StoreError) as caught:
            await store.claim(new_claim())
        assert (caught.value.reason, caught.value.maybe_done) == ("read_only", False)
        assert await store.weaknesses()
        server.command("REPLICAOF", "NO", "ONE")
        await eventually(lambda: _is_granted(store))

    async def test_a_server_that_wants_a_password(self, kind, tmp_path, open_store):
        server = Server(kind, tmp_path, "--requirepass", "secret", password="secret")
        try:
            for userinfo in ("", ":wrong@", "nobody:secret@"):
                store = open_store(server.url.replace("//", f"//{userinfo}"))
                with pytest.raises(StoreError) as caught:
                    await store.claim(new_claim())
                assert "secret" not in str(caught.value)
            for userinfo in (":secret@", "default:secret@"):
                store = open_store(server.url.replace("//", f"//{userinfo}"))
                assert await store.claim(new_claim()) is Granted.FRESH
        finally:
            server.close()

    async def test_a_user_that_may_do_just_what_is_needed(self, server, open_store):
        rights = "~idempotency:* &idempotency:* resetchannels &idempotency:* -@all"
        commands = (
            "+evalsha +eval +time +get +set +getrange +setrange +pexpire +del +scan +ping +publish +subscribe"
        )
        rules = (f"on >secret {rights} {commands} +info").split()
        assert server.command("ACL", "SETUSER", "sidecar", *rules) == b"+OK\r\n"
        url = server.url.replace("//", "//sidecar:secret@")
        store, other = (
            open_store(url, key_prefix="idempotency:s:"),
            open_store(url, key_prefix="idempotency:s:"),
        )
        claim = new_claim()
        assert await store.claim(claim) is Granted.FRESH
        with await other.watch(claim.record_id) as watch:
            await other.claim(claim.replace(token=os.urandom(16)), watched=True)
            await store.complete(claim, RESPONSE)
            async with asyncio.timeout(10.0):
                await watch.news(20.0)
        assert len((await store.page()).items) == 1
        assert await store.weaknesses()
        forbidden = open_store(url, key_prefix="other:")
        with pytest.raises(StoreError) as caught:
            await forbidden.claim(new_claim())
        assert caught.value.reason == "denied"

    async def test_a_user_without_channels_can_still_wait(self, server, open_store):
        assert (
            server.command("ACL", "SETUSER", "mute", "on", ">secret", "~*", "resetchannels", "+@all")
            == b"+OK\r\n"
        )
        store = open_store(server.url.replace("//", "//mute:secret@"))
        claim = new_claim()
        await store.claim(claim)
        with await store.watch(claim.record_id) as watch:
            await store.claim(claim.replace(token=os.urandom(16)), watched=True)
            assert await store.complete(claim, RESPONSE) is Settled.DONE
            await watch.news(0.01)

    async def test_what_weakens_the_guarantee_is_told(self, server, open_store):
        store = open_store(server.url)
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        texts = await store.weaknesses()
        assert any("allkeys-lru" in text for text in texts)
        assert any("appendonly" in text for text in texts)


async def _is_granted(store):
    return await store.claim(new_claim()) is Granted.FRESH


class TestSilence:
    async def test_a_frozen_server_counts_as_down_after_the_timeout(self, server, open_store):
        store = open_store(server.url)
        await store.check()
        server.freeze()
        started = time.monotonic()
        claims = [new_claim(timeout=0.3) for _ in range(20)]
        answers = await asyncio.gather(*map(store.claim, claims), return_exceptions=True)
        assert 0.25 < time.monotonic() - started < 5.0
        assert {(type(answer), answer.reason, answer.maybe_done) for answer in answers} == {
            (StoreError, "timeout", True)
        }

    async def test_when_it_wakes_up_it_refuses_claims_that_nobody_waits_for(self, server, open_store):
        store = open_store(server.url, key_prefix="late:")
        await store.check()
        server.freeze()
        claims = [new_claim(timeout=0.2) for _ in range(20)]
        await asyncio.gather(*map(store.claim, claims), return_exceptions=True)
        server.thaw()
        await eventually(lambda: _is_granted(store))
        for claim in claims:
            assert await store.get(claim.record_id) is None

    async def test_a_silent_connection_is_given_up(self, wire, open_store):
        store = open_store(f"redis://127.0.0.1:{wire.port}")
        await store.check()
        wire.silent = True
        with pytest.raises(StoreError):
            await store.claim(new_claim(timeout=0.1))
        await asyncio.sleep(1.3)
        wire.silent = False
        await eventually(lambda: _is_granted(store))
        assert wire.connections >= 2

    async def test_a_server_that_hangs_up_during_the_greeting(self, wire, open_store):
        wire.lose_reply = True
        store = open_store(f"redis://:x@127.0.0.1:{wire.port}")
        with pytest.raises(StoreError) as caught:
            await store.claim(new_claim())
        assert caught.value.reason == "refused"

    async def test_a_clock_that_was_set_forward_is_learned(self, shared, open_store):
        store = open_store(shared.url)
        await store.check()
        for link in await store._runner.servers.masters():
            link.ahead -= 3600
        assert await store.claim(new_claim()) is Granted.FRESH

    async def test_too_many_commands_are_refused(self, server, open_store, monkeypatch):
        monkeypatch.setattr("sidecar.idempotency.link.MOST_UNANSWERED", 5)
        store = open_store(server.url)
        claims = [new_claim(timeout=0.2) for _ in range(8)]
        answers = await asyncio.gather(*map(store.claim, claims), return_exceptions=True)
        assert answers.count(Granted.FRESH) == 5
        assert {answer.reason for answer in answers if isinstance(answer, StoreError)} == {"overloaded"}
        server.freeze()
        answers = await asyncio.gather(*map(store.claim, map(_fresh, claims)), return_exceptions=True)
        assert sorted(answer.reason for answer in answers) == ["overloaded"] * 3 + ["timeout"] * 5


def _fresh(claim):
    return claim.replace(record_id=os.urandom(32).hex(), token=os.urandom(16))


class TestLostReplies:
    async def test_a_claim_that_is_sent_again_knows_its_token(self, wire, open_store, shared):
        store = open_store(f"redis://127.0.0.1:{wire.port}", key_prefix="lost:")
        await store.check()
        claims = [new_claim() for _ in range(10)]
        wire.lose_reply = True
        assert await asyncio.gather(*map(store.claim, claims)) == [Granted.FRESH] * 10
        assert wire.connections == 2

    @pytest.mark.parametrize("step", ["complete", "release", "mark_unknown", "renew"])
    async def test_so_is_every_other_write(self, wire, open_store, step):
        store = open_store(f"redis://127.0.0.1:{wire.port}")
        await _teach_scripts(store)
        claim = new_claim()
        await store.claim(claim)
        wire.lose_reply = True
        arguments = {
            "complete": (claim, RESPONSE),
            "release": (claim,),
            "mark_unknown": (claim, Loss.RESET),
            "renew": ([claim],),
        }[step]
        expected = {"release": Settled.GONE, "renew": [Settled.DONE]}.get(step, Settled.DONE)
        assert await getattr(store, step)(*arguments) == expected
        assert wire.connections == 2

    async def test_a_connection_that_breaks_again_and_again(self, wire, open_store):
        store = open_store(f"redis://127.0.0.1:{wire.port}")
        claims = [new_claim() for _ in range(200)]

        async def one(claim):
            assert await store.claim(claim) is Granted.FRESH
            assert await store.complete(claim, RESPONSE) is Settled.DONE

        async def cutting():
            while True:
                await asyncio.sleep(0.03)
                wire.cut()

        cutter = asyncio.create_task(cutting())
        for start in range(0, 200, 10):
            await asyncio.gather(*map(one, claims[start : start + 10]))
            await asyncio.sleep(0.01)
        cutter.cancel()
        assert wire.connections > 3

    async def test_a_server_that_is_restarted(self, server, open_store):
        store = open_store(server.url)
        claim = new_claim()
        await store.claim(claim)
        server.kill()
        with pytest.raises(StoreError):
            await store.complete(claim, RESPONSE)
        server.start()
        await eventually(lambda: _is_granted(store))
        assert await store.complete(claim, RESPONSE) is Settled.GONE

    async def test_commands_that_wait_for_a_connection_are_refused_when_it_fails(self, wire, open_store):
        store = open_store(f"redis://127.0.0.1:{wire.port}")
        await store.check()
        wire.silent = True
        asking = [asyncio.ensure_future(store.claim(new_claim())) for _ in range(3)]
        await asyncio.sleep(0.05)
        wire.silent = False
        await wire.close()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {(answer.reason, answer.maybe_done) for answer in answers} == {("refused", True)}
        await wire.open()

    async def test_a_closed_store_refuses(self, shared, open_store):
        store = open_store(shared.url)
        await store.check()
        await store.aclose()
        with pytest.raises(StoreError):
            await store.claim(new_claim())


async def _teach_scripts(store):
    claim = new_claim()
    await store.renew([claim])
    for write in (
        store.complete(claim, RESPONSE),
        store.release(claim),
        store.mark_unknown(claim, Loss.RESET),
    ):
        assert await write is Settled.GONE


async def _exists(server, key):
    return server.command("EXISTS", key) == b":1\r\n"


class TestSentinel:
    @pytest.fixture
    def sentinels(self, kind, tmp_path):
        sentinels = Sentinels(kind, tmp_path)
        yield sentinels
        sentinels.close()

    async def test_a_failover_is_followed(self, sentinels, open_store):
        store = open_store(sentinels.url, key_prefix="f:")
        before = new_claim()
        assert await store.claim(before) is Granted.FRESH
        assert await store.complete(before, RESPONSE) is Settled.DONE
        master, replica = sentinels.servers
        await eventually(lambda: _exists(replica, f"f:{before.record_id}"))
        master.kill()
        with pytest.raises(StoreError):
            await store.claim(new_claim())
        await eventually(lambda: _is_granted(store), within=40.0)
        record = await store.claim(before.replace(token=os.urandom(16)))
        assert isinstance(record, Record)
        assert record.response == RESPONSE

    async def test_a_master_that_was_demoted_is_left(self, sentinels, open_store):
        store = open_store(sentinels.url)
        assert await _is_granted(store)
        await self.demote(sentinels)
        await eventually(lambda: _is_granted(store))

    @staticmethod
    async def demote(sentinels):
        """Let the replica take over.

        A failover is refused until the replica is known well enough, and given up where it takes too long.
        """
        for _ in range(4):
            await eventually(lambda: _agrees(sentinels.sentinels[0], "SENTINEL", "FAILOVER", "main"))
            with suppress(TimeoutError):
                await eventually(lambda: _is_replica(sentinels.servers[0]), within=12.0)
                return
        raise AssertionError("the sentinels do not change the master")

    async def test_sentinels_that_are_dead_are_passed_over(self, sentinels, open_store):
        sentinels.sentinels[0].kill()
        sentinels.sentinels[1].freeze()
        store = open_store(sentinels.url)
        await eventually(lambda: _is_granted(store))

    async def test_a_master_that_no_sentinel_knows(self, sentinels, open_store):
        store = open_store(sentinels.url.replace("/main", "/other"))
        with pytest.raises(StoreError, match="no master 'other'"):
            await store.claim(new_claim())


async def _agrees(server, *command):
    return server.command(*command) == b"+OK\r\n"


async def _is_replica(server):
    return server.command("ROLE").startswith(b"*5\r\n$5\r\nslave")


@pytest.fixture(scope="module")
def whole(kind, tmp_path_factory):
    """A cluster for the tests that leave it as it is."""
    with closing(Cluster(kind, tmp_path_factory.mktemp("cluster"))) as cluster:
        yield cluster


class TestCluster:
    @pytest.fixture
    def cluster(self, kind, tmp_path):
        with closing(Cluster(kind, tmp_path)) as cluster:
            yield cluster

    async def test_keys_that_have_moved_are_followed(self, whole, open_store):
        cluster = whole
        store = open_store(cluster.url, key_prefix="m:")
        claims = [new_claim() for _ in range(30)]
        for claim in claims:
            await store.claim(claim)
        slot, source, target = _slot_of_first(cluster, claims)
        _begin_to_move(cluster, slot, source, target)
        # Half moved: the old node asks to look at the new one for keys that it has not got any more.
        fresh = _in_slot(cluster, slot, "m:")
        assert await store.claim(fresh) is Granted.FRESH
        assert await store.complete(fresh, RESPONSE) is Settled.DONE
        _finish_move(cluster, slot, source, target)
        for claim in [*claims, fresh]:
            assert (await store.get(claim.record_id)) is not None
        assert {record.id for record in (await store.page()).items} >= {fresh.record_id}

    async def test_a_node_that_is_down_takes_its_keys_along_and_no_others(self, cluster, open_store):
        store = open_store(cluster.url)
        claims = [new_claim(timeout=0.3) for _ in range(60)]
        await asyncio.gather(*map(store.claim, claims))
        cluster.nodes[0].command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        for node in cluster.nodes[1:]:
            node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        cluster.nodes[0].kill()
        answers = await asyncio.gather(
            *(store.complete(claim, RESPONSE) for claim in claims), return_exceptions=True
        )
        assert answers.count(Settled.DONE) >= 20
        assert all(isinstance(answer, StoreError) for answer in answers if answer is not Settled.DONE)

    async def test_a_cluster_that_is_down(self, open_store):
        nodes = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
        store = open_store(f"redis+cluster://{nodes}")
        with pytest.raises(StoreError, match="no map of the cluster"):
            await store.claim(new_claim())

    async def test_a_cluster_that_is_taken_for_a_single_server(self, whole, open_store):
        store = open_store(whole.nodes[0].url)
        answers = await asyncio.gather(*(store.claim(new_claim()) for _ in range(30)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, StoreError)]
        assert refused
        assert all("MOVED" in str(error) for error in refused)


def _slot_of_first(cluster, claims):
    answer = cluster.nodes[0].command("CLUSTER", "KEYSLOT", f"m:{claims[0].record_id}")
    slot = int(answer[1:])
    share = 16_384 // 3 + 1
    source = slot // share
    return slot, source, (source + 1) % 3


def _begin_to_move(cluster, slot, source, target):
    cluster.nodes[target].command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(source))
    cluster.nodes[source].command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(target))


def _finish_move(cluster, slot, source, target):
    keys = cluster.nodes[source].command("CLUSTER", "GETKEYSINSLOT", slot, 100).split(b"\r\n")[2::2]
    for key in keys:
        cluster.nodes[source].command("MIGRATE", "127.0.0.1", cluster.nodes[target].port, key, 0, 5000)
    for node in (cluster.nodes[target], cluster.nodes[source]):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(target))


def _in_slot(cluster, slot, prefix):
    from sidecar.idempotency.cluster import slot_of  # noqa: PLC0415 - used here only

    while True:
        claim = new_claim()
        if slot_of(f"{prefix}{claim.record_id}".encode()) == slot:
            return claim
