"""Records in this process's memory: bounded, expiring, gone with the process."""

from __future__ import annotations

import heapq
import logging
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK
from sidecar.idempotency.core import TRANSITIONS, Loss, State, Step
from sidecar.idempotency.record import Record, Response
from sidecar.idempotency.store import NOBODY, Granted, Page, Settled, StoreError
from sidecar.idempotency.watch import Watch, Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.clock import Clock
    from sidecar.idempotency.claim import Claim

_logger = logging.getLogger(__name__)

_RECORD_ID: Final = re.compile("[0-9a-f]{64}")
_LOG_INTERVAL: Final = 60.0

# Members are looked up by a function of their class and hashed by another: every request would pay for both.
_EXECUTING: Final = State.EXECUTING
_COMPLETED: Final = State.COMPLETED
_UNKNOWN: Final = State.UNKNOWN
_DONE: Final = Settled.DONE
_GONE: Final = Settled.GONE
_LOST: Final = Settled.LOST
_FRESH: Final = Granted.FRESH
_AGAIN: Final = Granted.AGAIN
_COMPLETABLE: Final = [state for state, step in TRANSITIONS if step is Step.COMPLETE]


class EvictionLog:
    """Says that something had to go before its time: at once, then once a minute at most, with counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts = {"record": 0, "body": 0}
        self._silent_until = 0.0

    def __call__(self, record_id: str, what: str) -> None:  # noqa: ARG002 - for other listeners
        """Take note of one eviction."""
        self._counts[what] += 1
        now = self._clock.monotonic()
        if now >= self._silent_until:
            _logger.warning(
                "idempotency memory store is full: evicted %(record)d records and %(body)d bodies so far",
                dict(self._counts),
            )
            self._silent_until = now + _LOG_INTERVAL


class MemoryIdempotencyStore:
    """A store for one process.

    When there are too many records, the completed one that was settled first is evicted; a record that
    executes or whose outcome is unknown never is: if there are only such, claims are refused. When the
    bodies are too large together, the oldest ones are dropped and their records stay, so that a retry is
    still recognised.

    Args:
        clock: For leases and times to live.
        max_records: Records at most.
        max_body_bytes: Bytes of all kept bodies together at most.
        on_evict: Called with a record's id and ``"record"`` or ``"body"`` for each one that has to go;
            logs by default.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        max_records: int = 100_000,
        max_body_bytes: int = 64 << 20,
        on_evict: Callable[[str, str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._max_records = max_records
        self._max_body_bytes = max_body_bytes
        self._on_evict = on_evict or EvictionLog(clock)
        self._entries: dict[str, _Entry] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()  # may be evicted, first settled first
        self._bodies: OrderedDict[str, int] = OrderedDict()  # sizes, first kept first
        self._body_bytes = 0
        self._expiry: list[tuple[float, str]] = []  # a heap; off by a lease at most
        self._watchers = Watchers()

    def __len__(self) -> int:
        return len(self._entries)

    async def claim(
        self,
        claim: Claim,
        *,
        over: bytes | None = None,
        watched: bool = False,  # noqa: ARG002 - all claims are
    ) -> Granted | Record:
        """See :meth:`IdempotencyStore.claim`."""
        now = self._clock.monotonic()
        self._expire(now)
        entry = self._find(claim.record_id, now)
        if entry is None:
            if len(self._entries) >= self._max_records:
                self._make_room()
            return self._put(claim, now, again=False)
        state = entry.state_at(now)
        if entry.claim.token == claim.token and state is not None:
            return _AGAIN if entry.again else _FRESH
        if state is None or (state is _UNKNOWN and entry.claim.token == over):
            self._drop(claim.record_id)
            return self._put(claim, now, again=True)
        return self._record(claim.record_id, entry, now)

    async def renew(self, claims: Sequence[Claim]) -> list[Settled]:
        """See :meth:`IdempotencyStore.renew`."""
        now = self._clock.monotonic()
        return [self._renew(claim, now) for claim in claims]

    async def amend(self, claim: Claim) -> Settled:
        """See :meth:`IdempotencyStore.amend`."""
        now = self._clock.monotonic()
        entry, verdict = self._own(claim, now)
        if entry is None:
            return verdict
        if entry.state_at(now) is _COMPLETED:
            return _LOST
        entry.claim = claim
        return _DONE

    async def complete(self, claim: Claim, response: Response) -> Settled:
        """See :meth:`IdempotencyStore.complete`."""
        now = self._clock.monotonic()
        entry, verdict = self._own(claim, now)
        if entry is None:
            return verdict
        if entry.state_at(now) in _COMPLETABLE:
            entry.claim = claim
            self._keep(entry, response, claim.ttl, now)
        return _DONE

    async def release(self, claim: Claim) -> Settled:
        """See :meth:`IdempotencyStore.release`."""
        now = self._clock.monotonic()
        entry, verdict = self._own(claim, now)
        if entry is None:
            return verdict
        if entry.state is not _EXECUTING:
            return _LOST
        if entry.again:
            self._bury(entry)
        else:
            self._drop(claim.record_id)
        self._watchers.wake(claim.record_id)
        return _DONE

    async def mark_unknown(self, claim: Claim, loss: Loss) -> Settled:
        """See :meth:`IdempotencyStore.mark_unknown`."""
        now = self._clock.monotonic()
        entry, verdict = self._own(claim, now)
        if entry is None:
            return verdict
        if entry.state is _COMPLETED:
            return _LOST
        if entry.state is _EXECUTING:
            entry.settle(_UNKNOWN, now, claim.ttl)
            entry.loss = loss
            self._watchers.wake(claim.record_id)
        return _DONE

    async def get(self, record_id: str) -> Record | None:
        """See :meth:`IdempotencyStore.get`."""
        now = self._clock.monotonic()
        entry = self._find(record_id, now)
        if entry is None or entry.state is None:
            return None
        return self._record(record_id, entry, now)

    async def page(
        self,
        *,
        state: State | None = None,
        route: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """See :meth:`IdempotencyStore.page`."""
        if cursor is not None and _RECORD_ID.fullmatch(cursor) is None:
            raise ValueError("the cursor is not one that was given out")
        now = self._clock.monotonic()
        self._expire(now)

        def wanted(record_id: str, entry: _Entry) -> bool:
            return (
                (cursor is None or record_id > cursor)
                and (found := entry.state_at(now)) is not None
                and (state is None or found is state)
                and (route is None or entry.claim.route == route)
                and entry.expires_at > now
            )

        ids = heapq.nsmallest(limit + 1, [id_ for id_, entry in self._entries.items() if wanted(id_, entry)])
        page = [
            self._record(record_id, self._entries[record_id], now, brief=True) for record_id in ids[:limit]
        ]
        return Page(page, ids[limit - 1] if len(ids) > limit else None)

    async def resolve(self, record_id: str, response: Response, ttl: float) -> Settled:
        """See :meth:`IdempotencyStore.resolve`."""
        now = self._clock.monotonic()
        entry = self._find(record_id, now)
        if entry is None or entry.state is None:
            return _GONE
        if (entry.state_at(now), Step.RESOLVE) not in TRANSITIONS:
            return _LOST
        entry.claim = entry.claim.replace(token=NOBODY)
        self._keep(entry, response, ttl, now)
        return _DONE

    async def free(self, record_id: str) -> Settled:
        """See :meth:`IdempotencyStore.free`."""
        now = self._clock.monotonic()
        entry = self._find(record_id, now)
        if entry is None or entry.state is None:
            return _GONE
        if (entry.state_at(now), Step.FREE) not in TRANSITIONS:
            return _LOST
        self._bury(entry)
        self._watchers.wake(record_id)
        return _DONE

    async def watch(self, record_id: str) -> Watch:
        """See :meth:`IdempotencyStore.watch`."""
        return Watch(self._watchers, record_id)

    async def check(self) -> None:
        """See :meth:`IdempotencyStore.check`: it always can."""

    async def weaknesses(self) -> list[str]:
        """See :meth:`IdempotencyStore.weaknesses`."""
        return ["memory:// forgets all idempotency keys on a restart: set store to Redis where that matters"]

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._settled.clear()
        self._bodies.clear()
        self._expiry.clear()
        self._body_bytes = 0

    def _find(self, record_id: str, now: float) -> _Entry | None:
        entry = self._entries.get(record_id)
        if entry is not None and entry.expires_at <= now:
            self._drop(record_id)
            return None
        return entry

    def _own(self, claim: Claim, now: float) -> tuple[_Entry | None, Settled]:
        """The entry that holds the claim's token, or why there is none."""
        entry = self._find(claim.record_id, now)
        if entry is None:
            return None, _GONE
        if entry.claim.token != claim.token or entry.state is None:
            return None, _LOST
        return entry, _DONE

    def _put(self, claim: Claim, now: float, *, again: bool) -> Granted:
        entry = self._entries[claim.record_id] = _Entry(claim, now, again=again)
        # Read once: taken anew at each look, the same moment would be told as another every time.
        entry.epoch = self._clock.wall() - now
        heapq.heappush(self._expiry, (entry.expires_at, claim.record_id))
        return _AGAIN if again else _FRESH

    def _renew(self, claim: Claim, now: float) -> Settled:
        entry, verdict = self._own(claim, now)
        if entry is None:
            return verdict
        if entry.state_at(now) is not _EXECUTING:
            return _LOST
        entry.lease_until = now + claim.lease
        entry.expires_at = entry.lease_until + claim.ttl
        return _DONE

    def _keep(self, entry: _Entry, response: Response, ttl: float, now: float) -> None:
        record_id = entry.claim.record_id
        entry.settle(_COMPLETED, now, ttl)
        entry.response = response
        self._settled[record_id] = None
        if response.body:
            self._bodies[record_id] = len(response.body)
            self._body_bytes += len(response.body)
            while self._body_bytes > self._max_body_bytes:
                self._drop_oldest_body()
        self._watchers.wake(record_id)

    def _bury(self, entry: _Entry) -> None:
        """Leave a mark that the key is free although it was sent; it lasts as long as the record would."""
        entry.state = None
        self._settled[entry.claim.record_id] = None

    def _drop(self, record_id: str) -> None:
        del self._entries[record_id]
        self._settled.pop(record_id, None)
        self._body_bytes -= self._bodies.pop(record_id, 0)

    def _drop_oldest_body(self) -> None:
        record_id, size = self._bodies.popitem(last=False)
        self._body_bytes -= size
        entry = self._entries[record_id]
        assert entry.response is not None
        entry.response = entry.response.without_body()
        self._on_evict(record_id, "body")

    def _make_room(self) -> None:
        if not self._settled:
            raise StoreError(
                f"all {self._max_records} records of the memory store are executing or unknown",
                reason="full",
                maybe_done=False,
            )
        record_id = next(iter(self._settled))
        self._drop(record_id)
        self._on_evict(record_id, "record")

    def _expire(self, now: float) -> None:
        """Drop what has expired, and keep the heap in proportion to the records."""
        expiry = self._expiry
        while expiry and expiry[0][0] <= now:
            _, record_id = heapq.heappop(expiry)
            entry = self._find(record_id, now)
            if entry is not None:
                heapq.heappush(expiry, (entry.expires_at, record_id))
        if len(expiry) > 2 * len(self._entries) + 1000:
            self._expiry = [(entry.expires_at, record_id) for record_id, entry in self._entries.items()]
            heapq.heapify(self._expiry)

    def _record(self, record_id: str, entry: _Entry, now: float, *, brief: bool = False) -> Record:
        state = entry.state_at(now)
        assert state is not None
        epoch = entry.epoch
        lapsed = state is not entry.state
        settled_at = entry.lease_until if lapsed else entry.settled_at
        response = entry.response
        return Record(
            id=record_id,
            state=state,
            token=entry.claim.token,
            fingerprint=entry.claim.fingerprint,
            route=entry.claim.route,
            correlation_id=entry.claim.correlation_id,
            created_at=epoch + entry.created_at,
            lease_until=epoch + entry.lease_until if state is _EXECUTING else None,
            settled_at=None if settled_at is None else epoch + settled_at,
            response=Response(response.status, (), None) if brief and response is not None else response,
            loss=Loss.LEASE if lapsed else entry.loss,
            span=entry.claim.span,
        )


class _Entry:
    """A record, with times by the monotonic clock whose zero is ``epoch``. A freed one has no state."""

    __slots__ = (
        "again",
        "claim",
        "created_at",
        "epoch",
        "expires_at",
        "lease_until",
        "loss",
        "response",
        "settled_at",
        "state",
    )

    def __init__(self, claim: Claim, now: float, *, again: bool) -> None:
        self.claim = claim
        self.again = again
        self.state: State | None = _EXECUTING
        self.created_at = now
        self.epoch = 0.0
        self.settled_at: float | None = None
        self.response: Response | None = None
        self.loss: Loss | None = None
        self.lease_until = now + claim.lease
        self.expires_at = self.lease_until + claim.ttl

    def state_at(self, now: float) -> State | None:
        """Where the record stands: a run-out lease is an unknown outcome."""
        if self.state is _EXECUTING and self.lease_until <= now:
            return _UNKNOWN
        return self.state

    def settle(self, state: State, now: float, ttl: float) -> None:
        self.state = state
        self.settled_at = now
        self.loss = None
        self.expires_at = now + ttl
