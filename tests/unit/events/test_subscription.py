import asyncio

import pytest

from sidecar.clock import ManualClock
from sidecar.dlq.errors import DeadLetterStoreError
from sidecar.dlq.memory import MemoryDeadLetterStore
from sidecar.dlq.record import Attempt
from sidecar.dlq.store import QueueName, Selection
from sidecar.errors import BulkheadFull, CircuitOpen, UpstreamTimeout, UpstreamUnreachable
from sidecar.events.lanes import Parcel
from sidecar.events.stream import Entry, StreamError
from sidecar.events.subscription import LONGEST_PAUSE, SCHEDULE, Subscription, Target
from sidecar.events.verdict import MAX_LOST
from tests.unit.events.events import NOW, TRACEPARENT, TYPE, an_event

PATH = "/hooks/a"
NAME = "app/hooks/a"
QUEUE = QueueName("requests", TYPE)


class Subscriber:
    """Answers as told: with a status, an error, or when the test says so."""

    def __init__(self):
        self.answers = {}
        self.default = 200
        self.calls = []
        self.attempts = []
        self.gates = {}
        self.running = self.most = 0

    async def __call__(self, event, event_type, *, upstream, path, attempt):
        assert (event_type, upstream, path) == (TYPE, "app", PATH)
        self.calls.append(event.id)
        self.attempts.append(attempt)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if event.id in self.gates:
                await self.gates[event.id].wait()
        finally:
            self.running -= 1
        answers = self.answers.get(event.id, [])
        answer = answers.pop(0) if answers else self.default
        if isinstance(answer, Exception):
            raise answer
        return answer


class Notes:
    """What a consumer writes down."""

    def __init__(self):
        self.noted = {}
        self.fails = False

    async def note(self, entry_id, name, attempts):
        if self.fails:
            raise StreamError("gone")
        self.noted[entry_id, name] = list(attempts)


class Bench:
    """A subscription and everything around it."""

    def __init__(self, **target):
        self.clock = ManualClock(wall=NOW)
        self.subscriber = Subscriber()
        self.notes = Notes()
        self.store = MemoryDeadLetterStore(clock=self.clock)
        self.settled = []
        self.counts = []
        self.subscription = Subscription(
            Target(event_type=TYPE, upstream="app", path=PATH, **target),
            service="requests",
            consumer=self.notes,
            deliver=self.subscriber,
            dead_letters=self.store,
            settled=lambda parcel: self.settled.append(parcel.event.id),
            count=self.counts.append,
            clock=self.clock,
        )
        self.parcels = {}

    def offer(self, *events, attempts=(), lost_by=""):
        for event in events:
            entry = Entry(f"{len(self.parcels)}-0", event, {NAME: attempts} if attempts else {}, lost_by)
            parcel = self.parcels[event.id] = Parcel(entry.id, event, 1)
            self.subscription.offer(parcel, entry)

    async def run(self):
        """Let everything happen that can happen now."""
        self.subscription.pump()
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds):
        self.clock.advance(seconds)
        await self.run()

    async def dead_letters(self):
        return (await self.store.page(QUEUE, Selection(oldest_first=True), limit=100)).items


@pytest.fixture
async def bench():
    made = []

    def make(**target):
        made.append(Bench(**target))
        return made[-1]

    yield make
    for each in made:
        await each.subscription.stop(0)


def events(*ids, **about):
    return [an_event(event_id, **about) for event_id in ids]


async def test_what_is_delivered_is_settled(bench):
    it = bench()
    it.offer(*events("a", "b"))
    await it.run()
    assert it.settled == ["a", "b"]
    assert it.counts == ["delivered"] * 2
    assert it.subscriber.attempts == [1, 1]


async def test_no_more_than_the_concurrency(bench):
    it = bench(concurrency=3)
    gate = asyncio.Event()
    ids = [str(n) for n in range(9)]
    it.subscriber.gates = dict.fromkeys(ids, gate)
    it.offer(*events(*ids))
    await it.run()
    assert (it.subscriber.running, it.subscription.in_flight) == (3, 3)
    gate.set()
    await it.run()
    assert it.settled == ids
    assert it.subscriber.most == 3


async def test_failures_are_tried_again_with_growing_pauses_and_noted(bench):
    it = bench()
    it.subscriber.answers["a"] = [503, UpstreamTimeout("slow", sent=True), 429, 200]
    it.offer(*events("a"))
    await it.run()
    for number in range(1, 4):
        assert len(it.subscriber.calls) == number
        assert it.subscription.waiting == 1
        assert len(it.notes.noted["0-0", NAME]) == number
        await it.pass_time(SCHEDULE.initial_delay * SCHEDULE.multiplier ** (number - 1))
    assert it.settled == ["a"]
    assert it.counts == ["retried"] * 3 + ["delivered"]
    assert it.subscriber.attempts == [1, 2, 3, 4]
    noted = it.notes.noted["0-0", NAME]
    assert [attempt.error for attempt in noted] == [
        "503 from POST /hooks/a",
        "UPSTREAM_TIMEOUT: slow",
        "429 from POST /hooks/a",
    ]
    assert [attempt.status for attempt in noted] == [503, None, 429]


async def test_one_that_fails_too_often_becomes_a_dead_letter(bench):
    it = bench(max_attempts=3)
    it.subscriber.default = 500
    it.offer(*events("a"))
    for _ in range(5):
        await it.pass_time(SCHEDULE.max_delay)
    (record,) = await it.dead_letters()
    assert (record.reason, record.error) == ("attempts_exhausted", "500 from POST /hooks/a")
    assert [attempt.status for attempt in record.attempts] == [500] * 3
    assert (record.origin.kind, record.origin.upstream, record.origin.path) == ("subscription", "app", PATH)
    assert (record.correlation_id, record.trace_id) == ("c-1", TRACEPARENT[3:35])
    assert (record.idempotency_key, record.data, record.source_service) == ("a", b'{"id":1}', "requests")
    assert record.first_failed_at < record.last_failed_at == record.stored_at
    assert it.settled == ["a"]
    assert it.counts == ["retried", "retried", "dead_lettered"]


async def test_one_that_is_refused_becomes_a_dead_letter_at_once(bench):
    it = bench()
    it.subscriber.answers["a"] = [422]
    it.offer(*events("a", "b"))
    await it.run()
    (record,) = await it.dead_letters()
    assert (record.reason, len(record.attempts)) == ("rejected", 1)
    assert sorted(it.settled) == ["a", "b"]
    assert it.subscription.last_error == "422 from POST /hooks/a"


async def test_the_event_is_settled_only_when_its_dead_letter_is_stored(bench):
    it = bench()
    it.subscriber.answers["a"] = [400]
    stored, failures = it.store.add, [DeadLetterStoreError("full"), DeadLetterStoreError("full")]

    async def add(queue, record):
        if failures:
            raise failures.pop()
        await stored(queue, record)

    it.store.add = add
    it.offer(*events("a"))
    await it.run()
    assert it.settled == []
    assert it.subscription.last_error == "full"
    await it.pass_time(30)
    assert it.settled == []
    await it.pass_time(30)
    assert it.settled == ["a"]
    assert it.subscriber.calls == ["a"]  # it is not delivered again for that
    assert len(await it.dead_letters()) == 1


async def test_an_open_breaker_pauses_all_and_spends_nothing(bench):
    it = bench(max_attempts=1)
    it.subscriber.default = CircuitOpen("open", retry_after=3)
    it.offer(*events("a", "b", "c"))
    await it.run()
    first = len(it.subscriber.calls)
    assert it.subscription.paused_for == 3
    await it.pass_time(2.9)
    assert len(it.subscriber.calls) == first
    await it.pass_time(0.2)
    assert len(it.subscriber.calls) == first + 1  # one probe
    it.subscriber.default = 200
    await it.pass_time(3)
    await it.pass_time(3)
    assert sorted(it.settled) == ["a", "b", "c"]
    assert set(it.subscriber.attempts) == {1}
    assert await it.dead_letters() == ()
    assert it.subscription.paused_for == 0


async def test_a_breaker_is_asked_again_soon_whatever_it_says(bench):
    it = bench()
    it.subscriber.answers["a"] = [CircuitOpen("open", retry_after=120)]
    it.offer(*events("a"))
    await it.run()
    await it.pass_time(LONGEST_PAUSE)
    assert it.settled == ["a"]


async def test_probes_that_reach_nobody_spend_nothing(bench):
    it = bench(max_attempts=2)
    refused = UpstreamUnreachable("refused", sent=False)
    it.subscriber.answers["a"] = [refused, CircuitOpen("open", retry_after=1), *[refused] * 20, 200]
    it.offer(*events("a"))
    for _ in range(30):
        await it.pass_time(SCHEDULE.max_delay)
    assert it.settled == ["a"]
    noted = it.notes.noted["0-0", NAME]
    assert [attempt.spent for attempt in noted] == [True, False]  # twenty equal ones are told as one


async def test_a_full_bulkhead_holds_up_one_event_alone(bench):
    it = bench()
    it.subscriber.answers["a"] = [BulkheadFull("full", retry_after=1)]
    it.offer(*events("a", "b"))
    await it.run()
    assert it.settled == ["b"]
    await it.pass_time(1)
    assert it.settled == ["b", "a"]
    assert it.counts == ["paused", "delivered", "delivered"]


async def test_order_within_a_partition(bench):
    it = bench(partition=("customer",))
    data = {
        "1a": b'{"customer":1}',
        "2a": b'{"customer":2}',
        "1b": b'{"customer":1.0}',
        "1c": b'{"customer":1}',
        "none": b"{}",
        "text": b"no json",
    }
    it.subscriber.answers["1a"] = [500]
    for event_id, payload in data.items():
        it.offer(an_event(event_id, payload))
    await it.run()
    assert sorted(it.settled) == ["1b", "2a", "none", "text"]  # 1 and 1.0 are written differently
    await it.pass_time(SCHEDULE.max_delay)
    assert it.settled[-2:] == ["1a", "1c"]


async def test_a_dead_letter_lets_its_partition_go_on(bench):
    it = bench(partition=("customer",))
    it.subscriber.answers["a"] = [400]
    it.offer(*events("a", "b", data=b'{"customer":1}'))
    await it.run()
    assert it.settled == ["a", "b"]


async def test_attempts_of_another_consumer_count(bench):
    it = bench(max_attempts=2)
    earlier = (Attempt(at=NOW, error="503", status=503),)
    it.subscriber.answers["a"] = [503]
    it.offer(*events("a"), attempts=earlier, lost_by="host-1")
    await it.run()
    (record,) = await it.dead_letters()
    assert [attempt.error for attempt in record.attempts] == [
        "503",
        "consumer lost: host-1",
        "503 from POST /hooks/a",
    ]
    assert it.subscriber.attempts == [2]


async def test_one_that_was_given_up_by_a_consumer_that_vanished_is_not_tried_again(bench):
    it = bench(max_attempts=1)
    it.offer(*events("a"), attempts=(Attempt(at=NOW, error="503", status=503),))
    await it.run()
    assert it.subscriber.calls == []
    assert [record.reason for record in await it.dead_letters()] == ["attempts_exhausted"]


async def test_one_that_takes_every_consumer_with_it(bench):
    it = bench()
    lost = tuple(Attempt(at=NOW, error="consumer lost: h", spent=False) for _ in range(MAX_LOST))
    it.offer(*events("a"), attempts=lost, lost_by="h")
    await it.run()
    assert it.subscriber.calls == []
    assert [record.reason for record in await it.dead_letters()] == ["consumers_lost"]


async def test_where_notes_cannot_be_written_it_goes_on(bench):
    it = bench()
    it.notes.fails = True
    it.subscriber.answers["a"] = [500]
    it.offer(*events("a"))
    await it.run()
    await it.pass_time(SCHEDULE.max_delay)
    assert it.settled == ["a"]


async def test_an_event_that_another_consumer_has_is_left_alone(bench):
    it = bench(concurrency=1)
    gate = it.subscriber.gates["a"] = asyncio.Event()
    it.subscriber.answers["a"] = [500]
    it.offer(*events("a", "b"))
    await it.run()
    for parcel in it.parcels.values():
        parcel.lost = True
    gate.set()
    await it.run()
    assert it.subscriber.calls == ["a"]
    assert sorted(it.settled) == ["a", "b"]  # for this consumer they are
    assert it.counts == []


async def test_a_fault_of_ours_loses_nothing(bench):
    it = bench()

    async def broken(queue, record):
        raise RuntimeError("bug")

    stored, it.store.add = it.store.add, broken
    it.subscriber.answers["a"] = [400]
    it.offer(*events("a"))
    await it.run()
    it.store.add = stored
    await it.pass_time(SCHEDULE.max_delay)
    assert it.settled == ["a"]


async def test_the_end_waits_for_what_is_under_way(bench):
    it = bench(concurrency=1)
    gate = it.subscriber.gates["a"] = asyncio.Event()
    it.offer(*events("a", "b"))
    await it.run()
    stopping = asyncio.create_task(it.subscription.stop(5))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert it.settled == ["a"]
    assert it.subscriber.calls == ["a"]


async def test_the_end_cuts_short_what_takes_too_long_and_dead_letters_nothing(bench):
    it = bench(max_attempts=1)
    it.subscriber.gates["a"] = asyncio.Event()
    it.offer(*events("a"))
    await it.run()
    await it.subscription.stop(0)
    assert it.subscriber.running == 0
    assert it.settled == []
    assert await it.dead_letters() == ()


async def test_a_failure_during_the_end_is_no_attempt(bench):
    it = bench(max_attempts=1)
    gate = it.subscriber.gates["a"] = asyncio.Event()
    it.subscriber.answers["a"] = [503]
    it.offer(*events("a"))
    await it.run()
    stopping = asyncio.create_task(it.subscription.stop(5))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert it.settled == []
    assert await it.dead_letters() == ()


async def test_subscriptions_of_one_type_have_records_of_their_own(bench):
    it = bench(alone=False)
    it.subscriber.default = 400
    it.offer(*events("0190b0a0-0000-7000-8000-000000000001"))
    await it.run()
    (record,) = await it.dead_letters()
    assert record.id != record.idempotency_key
    assert "REQUEST_CREATED to app/hooks/a" in repr(it.subscription)
