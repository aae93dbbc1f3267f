"""A store that can be made to fail, and what the tests of the engine share."""

import asyncio
from contextlib import contextmanager

from sidecar.clock import ManualClock
from sidecar.idempotency.engine import Engine
from sidecar.idempotency.fingerprint import Kind, take
from sidecar.idempotency.memory import MemoryIdempotencyStore
from sidecar.idempotency.policy import RoutePolicy
from sidecar.idempotency.sent import SentKeys
from sidecar.idempotency.store import StoreError


def policy_with(**changes):
    return RoutePolicy(**{"service": "shop", "route": "orders", "lease": 10.0, "ttl": 100.0} | changes)


POLICY = policy_with()
BODY = b'{"ok":true}'


class FlakyStore:
    """A memory store between which and its caller things get lost.

    Attributes:
        calls: Names of the operations that were asked for.
        down: While set, operations fail with it and are not carried out.
        mute: While set, operations are carried out and fail with it all the same.
    """

    def __init__(self, clock):
        self.inner = MemoryIdempotencyStore(clock=clock)
        self.calls = []
        self.down = None
        self.mute = None
        self.gate = None

    def flush(self):
        self.inner._entries.clear()
        self.inner._settled.clear()

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            self.calls.append(name)
            if self.gate is not None:
                await self.gate.wait()
            if self.down is not None:
                raise self.down
            answer = await getattr(self.inner, name)(*args, **kwargs)
            if self.mute is not None:
                raise self.mute
            return answer

        return call

    @contextmanager
    def refusing(self):
        self.down = StoreError("refused", reason="refused", maybe_done=False)
        yield
        self.down = None

    @contextmanager
    def silent(self):
        """Carries out what it is asked and does not answer in time."""
        self.mute = StoreError("silent", reason="timeout", maybe_done=True)
        yield
        self.mute = None


class Sidecar:
    """One process's engine, over a store that may be another's too."""

    def __init__(self, store, clock, sent=None):
        self.clock = clock
        self.store = store
        self.engine = Engine(store, clock=clock, sent=sent)

    async def ask(self, key=b"k", body=b"{}", policy=POLICY, correlation_id="c1"):
        fingerprint = take(policy.kind, b"POST", b"/orders", b"application/json", body)
        return await self.engine.claim(policy, policy.record_id([[]], key), fingerprint, correlation_id)

    async def retry_writes(self):
        return await self.engine._ledger.retry()

    async def renew(self):
        await self.engine._leases.renew_due()


def sidecars(count=1):
    clock = ManualClock()
    store = FlakyStore(clock)
    return [Sidecar(store, clock) for _ in range(count)]


def workers(count):
    """Processes of one sidecar: they share what they know to have been sent."""
    clock, sent = ManualClock(), SentKeys(1024)
    store = FlakyStore(clock)
    return [Sidecar(store, clock, sent) for _ in range(count)]


async def spin():
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


__all__ = ["BODY", "POLICY", "FlakyStore", "Kind", "Sidecar", "sidecars", "spin", "workers"]
