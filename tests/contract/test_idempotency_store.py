"""One suite for every store of idempotency records."""

import asyncio
import itertools
import os
from contextlib import suppress

import pytest

from sidecar.clock import ManualClock
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.core import Loss, State
from sidecar.idempotency.memory import MemoryIdempotencyStore
from sidecar.idempotency.record import Record, Response
from sidecar.idempotency.redis import RedisIdempotencyStore
from sidecar.idempotency.store import Granted, Settled

RESPONSE = Response(201, ((b"Location", b"/1"), (b"X-Binary", bytes(range(256)))), bytes(range(256)) * 3)
SHORT = 0.2
numbers = itertools.count()


class Memory:
    """The memory store, with time that the tests move."""

    def __init__(self):
        self.clock = ManualClock()
        self.store = self.other = MemoryIdempotencyStore(clock=self.clock)

    async def pass_time(self, seconds):
        self.clock.advance(seconds + 0.02)

    async def aclose(self):
        await self.store.aclose()


class Redis:
    """Two processes' views of one Redis, whose time passes by itself."""

    def __init__(self, url):
        prefix = f"idempotency:{next(numbers)}[*]:"
        self.store, self.other = (RedisIdempotencyStore(url, key_prefix=prefix) for _ in range(2))

    async def pass_time(self, seconds):
        await asyncio.sleep(seconds + 0.02)

    async def aclose(self):
        await self.store.aclose()
        await self.other.aclose()


@pytest.fixture
async def place(server):
    place = Memory() if server is None else Redis(server.url)
    yield place
    await place.aclose()


@pytest.fixture
def store(place):
    return place.store


@pytest.fixture
def other(place):
    return place.other


def new_claim(**changes):
    claim = Claim(
        os.urandom(32).hex(), os.urandom(16), b"\x01\x01" + os.urandom(32), "orders", "c-1", 60.0, 600.0
    )
    return claim.replace(**changes)


def rival_of(claim, **changes):
    return claim.replace(token=os.urandom(16), **changes)


async def unknown(store, claim):
    assert await store.claim(claim) is Granted.FRESH
    assert await store.mark_unknown(claim, Loss.RESET) is Settled.DONE


class TestClaim:
    async def test_an_empty_place_is_granted_once(self, store, other):
        claim = new_claim()
        assert await store.get(claim.record_id) is None
        assert await store.claim(claim) is Granted.FRESH
        found = await other.claim(rival_of(claim))
        assert isinstance(found, Record)
        assert found.state is State.EXECUTING
        assert found.token == claim.token
        assert found.fingerprint == claim.fingerprint
        assert (found.route, found.correlation_id) == ("orders", "c-1")
        assert 59 < found.lease_until - found.created_at <= 60
        assert (found.settled_at, found.response, found.loss) == (None, None, None)

    @pytest.mark.parametrize("span", [b"", bytes(range(24))])
    async def test_the_span_of_who_executed_is_kept_with_the_response(self, store, other, span):
        claim = new_claim(span=span)
        await store.claim(claim)
        assert (await other.claim(rival_of(claim, span=b"s" * 24))).span == span
        await store.complete(claim, Response(200, ((b"a", b"b"),), b"body"))
        found = await other.get(claim.record_id)
        assert (found.span, found.response.headers, found.response.body) == (span, ((b"a", b"b"),), b"body")

    async def test_of_many_at_once_one_is_granted(self, store, other):
        claim = new_claim()
        answers = await asyncio.gather(
            *(s.claim(rival_of(claim)) for s in (store, other) for _ in range(100))
        )
        assert answers.count(Granted.FRESH) == 1
        winner = {answer.token for answer in answers if isinstance(answer, Record)}
        assert len(winner) == 1

    async def test_a_claim_that_is_sent_again_knows_its_own_token(self, store, other):
        claim = new_claim()
        assert await store.claim(claim) is Granted.FRESH
        assert await other.claim(claim) is Granted.FRESH
        await store.mark_unknown(claim, Loss.RESET)
        assert await store.claim(claim) is Granted.FRESH
        assert (await store.get(claim.record_id)).state is State.UNKNOWN

    async def test_keys_do_not_disturb_each_other(self, store):
        claims = [new_claim() for _ in range(50)]
        assert await asyncio.gather(*map(store.claim, claims)) == [Granted.FRESH] * 50
        await store.complete(claims[0], RESPONSE)
        assert (await store.get(claims[1].record_id)).state is State.EXECUTING

    async def test_a_run_out_lease_is_an_unknown_outcome(self, place, store, other):
        claim = new_claim(lease=SHORT)
        await store.claim(claim)
        await place.pass_time(SHORT)
        found = await other.claim(rival_of(claim))
        assert (found.state, found.loss, found.lease_until) == (State.UNKNOWN, Loss.LEASE, None)
        assert found.settled_at - found.created_at == pytest.approx(SHORT)
        assert (await store.get(claim.record_id)).state is State.UNKNOWN

    async def test_nobody_but_its_claimant_can_write_to_a_record(self, store):
        claim = new_claim()
        await store.claim(claim)
        rival = rival_of(claim)
        assert await store.renew([rival]) == [Settled.LOST]
        assert await store.amend(rival) is Settled.LOST
        assert await store.complete(rival, RESPONSE) is Settled.LOST
        assert await store.release(rival) is Settled.LOST
        assert await store.mark_unknown(rival, Loss.RESET) is Settled.LOST
        assert (await store.get(claim.record_id)).state is State.EXECUTING

    async def test_nothing_can_be_written_where_no_record_is(self, store):
        claim = new_claim()
        assert await store.renew([claim]) == [Settled.GONE]
        assert await store.amend(claim) is Settled.GONE
        assert await store.complete(claim, RESPONSE) is Settled.GONE
        assert await store.release(claim) is Settled.GONE
        assert await store.mark_unknown(claim, Loss.RESET) is Settled.GONE
        assert await store.resolve(claim.record_id, RESPONSE, 60.0) is Settled.GONE
        assert await store.free(claim.record_id) is Settled.GONE
        assert await store.get(claim.record_id) is None


class TestCompletion:
    @pytest.mark.parametrize(
        "response",
        [
            RESPONSE,
            Response(204, (), b""),
            Response(200, ((b"", b""), (b"a", b"\r\n\0")), b"\r\n"),
            Response(599, (), None),
            Response(200, ((b"x", b"y" * 70_000),), os.urandom(1 << 20)),
        ],
        ids=["binary", "empty", "odd", "no body", "large"],
    )
    async def test_a_response_comes_back_to_the_byte(self, store, other, response):
        claim = new_claim()
        await store.claim(claim)
        assert await store.complete(claim, response) is Settled.DONE
        record = await other.claim(rival_of(claim))
        assert (record.state, record.response) == (State.COMPLETED, response)
        assert (record.fingerprint, record.route, record.correlation_id) == (
            claim.fingerprint,
            "orders",
            "c-1",
        )
        assert record.settled_at >= record.created_at
        assert (record.lease_until, record.loss) == (None, None)

    async def test_it_may_be_sent_twice(self, store, other):
        claim = new_claim()
        await store.claim(claim)
        assert await store.complete(claim, RESPONSE) is Settled.DONE
        assert await other.complete(claim, RESPONSE) is Settled.DONE

    async def test_it_is_final(self, store):
        claim = new_claim()
        await store.claim(claim)
        await store.complete(claim, RESPONSE)
        assert await store.renew([claim]) == [Settled.LOST]
        assert await store.amend(claim) is Settled.LOST
        assert await store.release(claim) is Settled.LOST
        assert await store.mark_unknown(claim, Loss.RESET) is Settled.LOST
        assert await store.resolve(claim.record_id, Response(500, (), b""), 60.0) is Settled.LOST
        assert await store.free(claim.record_id) is Settled.LOST
        assert isinstance(await store.claim(rival_of(claim), over=claim.token), Record)
        assert (await store.get(claim.record_id)).response == RESPONSE

    async def test_its_time_to_live_counts_from_then(self, place, store):
        claim = new_claim(ttl=2 * SHORT)
        await store.claim(claim)
        await place.pass_time(SHORT)
        await store.complete(claim, RESPONSE)
        await store.claim(rival_of(claim))
        await place.pass_time(2 * SHORT)
        assert await store.get(claim.record_id) is None
        assert await store.claim(rival_of(claim)) is Granted.FRESH

    async def test_a_late_result_lands(self, place, store):
        lost, lapsed = new_claim(), new_claim(lease=SHORT)
        await unknown(store, lost)
        await store.claim(lapsed)
        await place.pass_time(SHORT)
        for claim in (lost, lapsed):
            assert await store.complete(claim, RESPONSE) is Settled.DONE
            assert (await store.get(claim.record_id)).response == RESPONSE


class TestLease:
    async def test_it_can_be_extended(self, place, store):
        claims = [new_claim(lease=SHORT) for _ in range(20)]
        for claim in claims:
            await store.claim(claim)
        longer = [claim.replace(lease=60.0) for claim in claims]
        answers = await store.renew([*longer, new_claim()])
        await place.pass_time(SHORT)
        if answers == [Settled.DONE] * 20 + [Settled.GONE]:  # on a slow machine a lease may run out before
            states = {(await store.get(claim.record_id)).state for claim in claims}
            assert states == {State.EXECUTING}
        else:
            assert set(answers) <= {Settled.DONE, Settled.LOST, Settled.GONE}

    async def test_not_once_it_has_run_out(self, place, store):
        claim = new_claim(lease=SHORT)
        await store.claim(claim)
        await place.pass_time(SHORT)
        assert await store.renew([claim]) == [Settled.LOST]
        assert (await store.get(claim.record_id)).state is State.UNKNOWN

    async def test_an_executing_record_outlives_a_time_to_live_that_is_shorter(self, place, store):
        claim = new_claim(ttl=SHORT)
        await store.claim(claim)
        await store.renew([claim])
        await place.pass_time(SHORT)
        assert (await store.get(claim.record_id)).state is State.EXECUTING

    async def test_nothing_to_renew(self, store):
        assert await store.renew([]) == []


class TestRelease:
    async def test_the_place_is_empty_again(self, store, other):
        claim = new_claim()
        await store.claim(claim)
        assert await store.release(claim) is Settled.DONE
        assert await other.get(claim.record_id) is None
        assert await store.release(claim) is Settled.GONE
        assert await other.claim(rival_of(claim)) is Granted.FRESH
        assert await store.release(claim) is Settled.LOST

    async def test_a_run_out_lease_does_not_hinder_it(self, place, store):
        claim = new_claim(lease=SHORT)
        await store.claim(claim)
        await place.pass_time(SHORT)
        assert await store.release(claim) is Settled.DONE
        assert await store.get(claim.record_id) is None

    async def test_an_unknown_outcome_does(self, store):
        claim = new_claim()
        await unknown(store, claim)
        assert await store.release(claim) is Settled.LOST
        assert (await store.get(claim.record_id)).state is State.UNKNOWN


class TestUnknown:
    async def test_it_says_why_and_may_be_said_twice(self, store, other):
        for loss in Loss:
            claim = new_claim()
            await store.claim(claim)
            assert await store.mark_unknown(claim, loss) is Settled.DONE
            assert await other.mark_unknown(claim, Loss.TIMEOUT) is Settled.DONE
            record = await other.get(claim.record_id)
            assert (record.state, record.loss, record.lease_until) == (State.UNKNOWN, loss, None)

    async def test_it_can_be_taken_over_once(self, store, other):
        claim = new_claim()
        await unknown(store, claim)
        rivals = [rival_of(claim) for _ in range(20)]
        answers = await asyncio.gather(*(other.claim(rival, over=claim.token) for rival in rivals))
        assert answers.count(Granted.AGAIN) == 1
        winner = rivals[answers.index(Granted.AGAIN)]
        assert (await store.get(claim.record_id)).token == winner.token
        assert await store.claim(winner, over=claim.token) is Granted.AGAIN
        assert await store.complete(claim, RESPONSE) is Settled.LOST
        assert await store.complete(winner, RESPONSE) is Settled.DONE

    async def test_only_by_one_who_has_seen_it(self, store):
        claim = new_claim()
        await unknown(store, claim)
        found = await store.claim(rival_of(claim), over=os.urandom(16))
        assert found.state is State.UNKNOWN
        running = new_claim()
        await store.claim(running)
        found = await store.claim(rival_of(running), over=running.token)
        assert found.state is State.EXECUTING

    async def test_its_time_to_live_counts_from_then(self, place, store):
        claim = new_claim(ttl=SHORT)
        await unknown(store, claim)
        await place.pass_time(SHORT)
        assert await store.get(claim.record_id) is None

    async def test_a_lapsed_one_is_kept_as_long(self, place, store):
        claim = new_claim(lease=SHORT, ttl=60.0)
        await store.claim(claim)
        await place.pass_time(SHORT)
        again = rival_of(claim)
        assert await store.claim(again, over=claim.token) is Granted.AGAIN


class TestAmendment:
    async def test_the_fingerprint_changes_and_nothing_else(self, store):
        for claim, step in ((new_claim(), "executing"), (new_claim(), "unknown")):
            await store.claim(claim)
            if step == "unknown":
                await store.mark_unknown(claim, Loss.UPLOAD)
            before = await store.get(claim.record_id)
            assert await store.amend(claim.replace(fingerprint=b"other")) is Settled.DONE
            after = await store.get(claim.record_id)
            assert after.fingerprint == b"other"
            assert (after.state, after.token, after.created_at) == (
                before.state,
                before.token,
                before.created_at,
            )

    async def test_the_time_to_live_stays(self, place, store):
        claim = new_claim(ttl=SHORT, lease=SHORT)
        await store.claim(claim)
        await store.amend(claim)
        await place.pass_time(2 * SHORT)
        assert await store.get(claim.record_id) is None


class TestOperator:
    async def test_an_unknown_outcome_is_resolved(self, store, other):
        claim = new_claim()
        await unknown(store, claim)
        assert await other.resolve(claim.record_id, RESPONSE, 60.0) is Settled.DONE
        record = await store.get(claim.record_id)
        assert (record.state, record.response, record.loss) == (State.COMPLETED, RESPONSE, None)
        assert (record.fingerprint, record.correlation_id) == (claim.fingerprint, "c-1")
        assert await other.resolve(claim.record_id, RESPONSE, 60.0) is Settled.LOST

    async def test_a_late_result_does_not_change_what_an_operator_said(self, store):
        claim = new_claim()
        await unknown(store, claim)
        await store.resolve(claim.record_id, RESPONSE, 60.0)
        assert await store.complete(claim, Response(500, (), b"late")) is Settled.LOST
        assert (await store.get(claim.record_id)).response == RESPONSE

    async def test_a_freed_key_is_granted_and_known_to_have_been_sent(self, store, other):
        claim = new_claim()
        await unknown(store, claim)
        assert await other.free(claim.record_id) is Settled.DONE
        assert await store.get(claim.record_id) is None
        assert await store.free(claim.record_id) is Settled.GONE
        assert await store.resolve(claim.record_id, RESPONSE, 60.0) is Settled.GONE
        assert await store.complete(claim, RESPONSE) is Settled.LOST
        assert await store.mark_unknown(claim, Loss.RESET) is Settled.LOST
        assert await store.amend(claim) is Settled.LOST
        again = rival_of(claim)
        assert await store.claim(again) is Granted.AGAIN
        assert (await store.get(claim.record_id)).state is State.EXECUTING
        assert await store.release(again) is Settled.DONE
        assert await store.get(claim.record_id) is None
        assert await store.claim(rival_of(claim)) is Granted.AGAIN

    async def test_a_run_out_lease_can_be_decided_a_running_one_cannot(self, place, store):
        lapsed, also_lapsed, running = new_claim(lease=SHORT), new_claim(lease=SHORT), new_claim()
        for claim in (lapsed, also_lapsed, running):
            await store.claim(claim)
        await place.pass_time(SHORT)
        assert await store.free(lapsed.record_id) is Settled.DONE
        assert await store.resolve(also_lapsed.record_id, RESPONSE, 60.0) is Settled.DONE
        assert await store.free(running.record_id) is Settled.LOST
        assert await store.resolve(running.record_id, RESPONSE, 60.0) is Settled.LOST


class TestPages:
    async def all(self, store, limit=100, **filters):
        items, cursor, pages = [], None, 0
        while True:
            page = await store.page(cursor=cursor, limit=limit, **filters)
            assert len(page.items) <= limit
            items += page.items
            cursor, pages = page.cursor, pages + 1
            if cursor is None:
                return items
            assert pages < 1000

    async def test_everything_is_listed(self, store):
        claims = [new_claim() for _ in range(60)]
        await asyncio.gather(*map(store.claim, claims))
        for limit in (1, 7, 100):
            items = await self.all(store, limit)
            assert {item.id for item in items} == {claim.record_id for claim in claims}

    async def test_what_ends_between_two_pages_hides_nothing(self, store):
        claims = [new_claim() for _ in range(40)]
        await asyncio.gather(*map(store.claim, claims))
        first = await store.page(limit=20)
        shown = {item.id for item in first.items}
        await asyncio.gather(*(store.release(claim) for claim in claims if claim.record_id in shown))
        rest = []
        cursor = first.cursor
        while cursor is not None:
            page = await store.page(cursor=cursor, limit=3)
            rest += page.items
            cursor = page.cursor
        assert {item.id for item in rest} == {claim.record_id for claim in claims} - shown

    @pytest.mark.parametrize("cursor", ["", "zzz", "0-0-0", "-1", "\0", "é" * 64])
    async def test_a_cursor_of_somebody_elses_making_is_refused(self, store, cursor):
        await store.claim(new_claim())
        with pytest.raises(ValueError, match="cursor"):
            await store.page(cursor=cursor)

    async def test_filters(self, place, store):
        running, completed, lost, lapsed, freed = (new_claim() for _ in range(5))
        elsewhere, lapsed = new_claim(route="elsewhere"), lapsed.replace(lease=SHORT)
        for claim in (running, completed, lost, lapsed, freed, elsewhere):
            await store.claim(claim)
        await store.complete(completed, RESPONSE)
        await store.mark_unknown(lost, Loss.RESET)
        await store.mark_unknown(freed, Loss.RESET)
        await store.free(freed.record_id)
        await place.pass_time(SHORT)

        async def ids(**filters):
            return {item.id for item in await self.all(store, **filters)}

        assert await ids(state=State.EXECUTING) == {running.record_id, elsewhere.record_id}
        assert await ids(state=State.COMPLETED) == {completed.record_id}
        assert await ids(state=State.UNKNOWN) == {lost.record_id, lapsed.record_id}
        assert await ids(route="elsewhere") == {elsewhere.record_id}
        assert await ids(route="elsewhere", state=State.UNKNOWN) == set()
        assert len(await ids()) == 5

    async def test_responses_are_left_out(self, store):
        claim = new_claim()
        await store.claim(claim)
        await store.complete(claim, RESPONSE)
        (item,) = await self.all(store)
        assert item.response == Response(201, (), None)
        assert (item.route, item.correlation_id) == ("orders", "c-1")


class TestWatch:
    @pytest.mark.parametrize("step", ["complete", "release", "mark_unknown", "free", "resolve"])
    async def test_a_settlement_wakes_those_who_wait(self, place, store, other, step):
        claim = new_claim()
        await store.claim(claim)
        if step in ("free", "resolve"):
            claim = claim.replace(lease=SHORT)
            await store.renew([claim])
        with await store.watch(claim.record_id) as here, await other.watch(claim.record_id) as there:
            for view in (store, other):
                assert isinstance(await view.claim(rival_of(claim), watched=True), Record)
            if step in ("free", "resolve"):
                await place.pass_time(SHORT)
            arguments = {
                "complete": (claim, RESPONSE),
                "release": (claim,),
                "mark_unknown": (claim, Loss.RESET),
                "free": (claim.record_id,),
                "resolve": (claim.record_id, RESPONSE, 60.0),
            }[step]
            waiting = asyncio.gather(here.news(20.0), there.news(20.0))
            assert await getattr(store, step)(*arguments) is Settled.DONE
            async with asyncio.timeout(10.0):
                await waiting

    async def test_news_ends_after_a_time(self, store):
        with await store.watch(new_claim().record_id) as watch:
            async with asyncio.timeout(10.0):
                await watch.news(0.01)

    async def test_news_between_two_waits_is_not_missed(self, store):
        claim = new_claim()
        await store.claim(claim)
        with await store.watch(claim.record_id) as watch:
            await store.claim(rival_of(claim), watched=True)
            await store.release(claim)
            async with asyncio.timeout(10.0):
                await watch.news(20.0)


async def test_a_reachable_store_says_so(store):
    await store.check()


async def test_a_cancelled_call_does_not_disturb_the_others(store):
    claims = [new_claim() for _ in range(30)]
    tasks = [asyncio.ensure_future(store.claim(claim)) for claim in claims]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    for claim, task in zip(claims, tasks, strict=True):
        with suppress(asyncio.CancelledError):
            assert await task is Granted.FRESH
        record = await store.get(claim.record_id)
        assert record is None or record.token == claim.token
