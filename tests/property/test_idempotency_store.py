"""Stores of idempotency records against a model that follows the transition table."""

import itertools
from hashlib import sha256

import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sidecar.clock import ManualClock
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.core import TRANSITIONS, Loss, State, Step
from sidecar.idempotency.memory import MemoryIdempotencyStore
from sidecar.idempotency.record import Response
from sidecar.idempotency.redis import RedisIdempotencyStore
from sidecar.idempotency.store import NOBODY, Granted, Settled
from tests.contract.redis_servers import Server

# Time moves in steps of ten seconds, and no sum of these is near one: the real time of a run decides nothing.
LEASE, TTL = 105.0, 1002.5
KEYS = [sha256(name).hexdigest() for name in (b"a", b"b", b"c")]
runs = itertools.count()


class MemoryPlace:
    """The memory store and its clock."""

    def __init__(self):
        self._clock = ManualClock()
        self.store = MemoryIdempotencyStore(clock=self._clock)

    async def pass_time(self, seconds):
        self._clock.advance(seconds)


# Time passes in Redis by moving all records into the past.
SHIFT = """
local page = redis.call('KEYS', ARGV[1] .. '*')
for _, key in ipairs(page) do
    local record = redis.call('GET', key)
    local left = redis.call('PTTL', key) - ARGV[2]
    if left <= 0 then
        redis.call('DEL', key)
    else
        for _, offset in ipairs({23, 36}) do
            local moment = tonumber(string.sub(record, offset + 1, offset + 13)) - ARGV[2]
            redis.call('SETRANGE', key, offset, string.format('%013.0f', moment))
        end
        redis.call('PEXPIRE', key, left)
    end
end
return redis.status_reply('OK')
"""


class RedisPlace:
    """The Redis store under a prefix of its own."""

    def __init__(self, server):
        self._server = server
        self._prefix = f"{next(runs)}:"
        self.store = RedisIdempotencyStore(server.url, key_prefix=self._prefix, timeout=10.0)

    async def pass_time(self, seconds):
        reply = self._server.command("EVAL", SHIFT, 0, self._prefix, int(seconds * 1000))
        assert reply == b"+OK\r\n", reply


class Model:
    """What should stand under one key: a state that only the transition table changes."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.state = self.token = self.fingerprint = self.response = self.loss = None
        self.freed = self.again = False
        self.lease_until = self.expires_at = 0.0

    def look(self, now):
        """Let time do what it does."""
        if self.expires_at <= now:
            self.clear()
        if self.state is State.EXECUTING and self.lease_until <= now:
            self.step(Step.LAPSE)
            self.loss = Loss.LEASE

    def step(self, step):
        if (self.state, step) not in TRANSITIONS:
            return False
        self.state = TRANSITIONS[self.state, step]
        return True

    def claim(self, claim, over, now):
        if self.token == claim.token and not self.freed:
            return Granted.AGAIN if self.again else Granted.FRESH
        again = self.freed
        if self.state is State.UNKNOWN and over == self.token:
            assert self.step(Step.REEXECUTE)
            again = True
        elif not self.step(Step.CLAIM):
            return self.state
        self.clear()
        self.state, self.token, self.fingerprint, self.again = (
            State.EXECUTING,
            claim.token,
            claim.fingerprint,
            again,
        )
        self.lease_until = now + LEASE
        self.expires_at = now + LEASE + TTL
        return Granted.AGAIN if again else Granted.FRESH

    def write(self, claim, operation, now, argument=None):
        if self.state is None and not self.freed:
            return Settled.GONE
        if self.token != claim.token or self.freed:
            return Settled.LOST
        return getattr(self, operation)(claim, now, argument)

    def renew(self, claim, now, _):
        if self.state is not State.EXECUTING:
            return Settled.LOST
        self.lease_until = now + LEASE
        self.expires_at = now + LEASE + TTL
        return Settled.DONE

    def amend(self, claim, now, _):
        if self.state is State.COMPLETED:
            return Settled.LOST
        self.fingerprint = claim.fingerprint
        return Settled.DONE

    def complete(self, claim, now, response):
        if self.step(Step.COMPLETE):
            self.response, self.loss, self.expires_at = response, None, now + TTL
            self.fingerprint = claim.fingerprint
        return Settled.DONE

    def mark_unknown(self, claim, now, loss):
        if self.state is State.COMPLETED:
            return Settled.LOST
        if self.state is State.EXECUTING or self.loss is Loss.LEASE:
            self.state, self.loss, self.expires_at = State.UNKNOWN, loss, now + TTL
        return Settled.DONE

    def release(self, claim, now, _):
        if self.state is State.UNKNOWN and self.loss is not Loss.LEASE:
            return Settled.LOST
        if not self.step(Step.RELEASE):
            return Settled.LOST
        self._empty(freed=self.again)
        return Settled.DONE

    def resolve(self, response, now):
        if self.state is None:
            return Settled.GONE
        if not self.step(Step.RESOLVE):
            return Settled.LOST
        self.response, self.loss, self.expires_at = response, None, now + TTL
        self.token = NOBODY
        return Settled.DONE

    def free(self):
        if self.state is None:
            return Settled.GONE
        if not self.step(Step.FREE):
            return Settled.LOST
        self._empty(freed=True)
        return Settled.DONE

    def _empty(self, *, freed):
        expires_at = self.expires_at
        self.clear()
        if freed:
            self.freed, self.expires_at = True, expires_at


responses = st.builds(
    Response,
    st.integers(200, 599),
    st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=9)), max_size=3).map(tuple),
    st.none() | st.binary(max_size=30),
)
keys = st.integers(0, len(KEYS) - 1)
losses = st.sampled_from([loss for loss in Loss if loss is not Loss.LEASE])
again = st.booleans()  # the reply is lost, so the same thing is sent once more


class StoreMachine(RuleBasedStateMachine):
    """Processes claim keys, crash (are never heard of again), come back late, and repeat themselves."""

    claims = Bundle("claims")
    place = None
    loop = None

    def __init__(self):
        super().__init__()
        self.here = type(self).place()
        self.store = self.here.store
        self.models = [Model() for _ in KEYS]
        self.now = 0.0
        self.tokens = (number.to_bytes(16, "big") for number in itertools.count(1))

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def teardown(self):
        self.run(self.store.aclose())

    def looked_at(self, key):
        self.models[key].look(self.now)
        return self.models[key]

    @rule(target=claims, key=keys, take_over=st.booleans())
    def claim(self, key, take_over):
        model = self.looked_at(key)
        claim = Claim(KEYS[key], next(self.tokens), b"fingerprint", "route", "c", LEASE, TTL, 10.0)
        over = model.token if take_over else None
        found = self.run(self.store.claim(claim, over=over))
        expected = model.claim(claim, over, self.now)
        assert (found if isinstance(found, Granted) else found.state) is expected
        return key, claim

    @rule(held=claims)
    def claim_again(self, held):
        key, claim = held
        model = self.looked_at(key)
        found = self.run(self.store.claim(claim))
        assert (found if isinstance(found, Granted) else found.state) is model.claim(claim, None, self.now)

    def write(self, held, operation, argument, repeat):
        key, claim = held
        model = self.looked_at(key)
        arguments = (claim,) if argument is None else (claim, argument)
        outcome = self.run(getattr(self.store, operation)(*arguments))
        assert outcome is model.write(claim, operation, self.now, argument)
        if repeat and operation != "release":
            second = self.run(getattr(self.store, operation)(*arguments))
            assert second is outcome

    @rule(held=claims, response=responses, repeat=again)
    def complete(self, held, response, repeat):
        self.write(held, "complete", response, repeat)

    @rule(held=claims, repeat=again)
    def release(self, held, repeat):
        self.write(held, "release", None, repeat)

    @rule(held=claims, loss=losses, repeat=again)
    def mark_unknown(self, held, loss, repeat):
        self.write(held, "mark_unknown", loss, repeat)

    @rule(held=claims, repeat=again)
    def amend(self, held, repeat):
        key, claim = held
        self.write((key, claim.replace(fingerprint=b"amended")), "amend", None, repeat)

    @rule(held=claims)
    def renew(self, held):
        key, claim = held
        expected = self.looked_at(key).write(claim, "renew", self.now)
        assert self.run(self.store.renew([claim])) == [expected]

    @rule(key=keys, response=responses)
    def resolve(self, key, response):
        expected = self.looked_at(key).resolve(response, self.now)
        assert self.run(self.store.resolve(KEYS[key], response, TTL)) is expected

    @rule(key=keys)
    def free(self, key):
        assert self.run(self.store.free(KEYS[key])) is self.looked_at(key).free()

    @rule(seconds=st.sampled_from([30, 60, 110, 1010]))
    def pass_time(self, seconds):
        self.now += seconds
        self.run(self.here.pass_time(seconds))

    @invariant()
    def records_are_as_the_model_says(self):
        expected = {}
        for key, record_id in enumerate(KEYS):
            model = self.looked_at(key)
            record = self.run(self.store.get(record_id))
            if model.state is None:
                assert record is None
                continue
            assert record is not None
            expected[record_id] = model.state
            assert (record.state, record.token, record.fingerprint) == (
                model.state,
                model.token,
                model.fingerprint,
            )
            assert (record.response, record.loss) == (model.response, model.loss)
            assert (record.lease_until is None) == (model.state is not State.EXECUTING)
        listed = {record.id: record.state for record in self.run(self.store.page()).items}
        assert listed == expected


def check(place, loop, examples):
    machine = type("Machine", (StoreMachine,), {"place": staticmethod(place), "loop": loop})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def loop():
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def valkey(tmp_path):
    server = Server("valkey", tmp_path)
    yield server
    server.close()


def test_the_memory_store(loop):
    check(MemoryPlace, loop, 150)


def test_the_redis_store(loop, valkey):
    check(lambda: RedisPlace(valkey), loop, 60)
