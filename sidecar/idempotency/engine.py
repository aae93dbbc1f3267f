"""What the proxy and the ASGI middleware call: is a request with a key executed, replayed or refused?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sidecar.clock import SYSTEM_CLOCK
from sidecar.errors import (
    DuplicateInProgress,
    KeyConflict,
    OutcomeUnknown,
    ResponseNotReplayable,
    StoreUnavailable,
)
from sidecar.idempotency.core import (
    TOKEN_BYTES,
    Loss,
    Record,
    RecordUnreadableError,
    State,
    Verdict,
    judge,
)
from sidecar.idempotency.execution import UNPROTECTED, Execution
from sidecar.idempotency.fingerprint import Kind, take
from sidecar.idempotency.leases import Leases
from sidecar.idempotency.sent import SentKeys
from sidecar.idempotency.settle import Settler
from sidecar.idempotency.store import Claim, Granted, StoreError
from sidecar.idempotency.timed import TimedStore
from sidecar.ids import random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.clock import Clock
    from sidecar.idempotency.core import Headers
    from sidecar.idempotency.execution import UnprotectedExecution
    from sidecar.idempotency.fingerprint import Fingerprint
    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.store import IdempotencyStore

_POLL = 0.5  # seconds; a waiting duplicate looks again although nobody called: the call may have been lost
_RETRY_AFTER = 1.0
_HEAVY_BODY = (
    64 << 10
)  # bytes; putting a larger one into canonical form would hold up the loop for milliseconds


class Replay(NamedTuple):
    """The first request's response, to be sent again.

    Attributes:
        status: HTTP status code.
        headers: Without framing, hop-by-hop fields and what belongs to the first delivery.
        body: The whole body.
        correlation_id: Of the request that was executed.
        result: For ``idempotency_requests_total``: ``replayed`` or ``waited``.
    """

    status: int
    headers: Headers
    body: bytes
    correlation_id: str
    result: str


class Undecided:
    """A duplicate with a streamed body: it has to be hashed to its end before it can be told anything.

    It will not be executed, so nothing of it needs to be kept.
    """

    __slots__ = ("_engine", "_request")

    def __init__(self, engine: Engine, request: _Request) -> None:
        self._engine = engine
        self._request = request

    async def decide(self, fingerprint: Fingerprint) -> Replay:
        """What the request is told, now that its whole body has passed.

        Raises:
            SidecarError: As :meth:`Engine.claim` does. Where the key has become free meanwhile, the client
                is told to try again: its body is gone.
        """
        request = self._request._replace(fingerprint=fingerprint, body_gone=True)
        return await self._engine.decide(request)


class _Request(NamedTuple):
    """A request that asks for its key."""

    policy: RoutePolicy
    claim: Claim
    fingerprint: Fingerprint
    body_gone: bool = False


class Engine:
    """Idempotency for one process.

    Args:
        store: Where records live.
        clock: For this process's own times; leases go by the store's clock.
        sent: Memory of keys that were sent; workers share one that was made before they were forked.
        observe: Called with the name of each operation of the store and the seconds that it took.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sent: SentKeys | None = None,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self.store = store if observe is None else TimedStore(store, observe, clock)
        self._clock = clock
        self._sent = sent or SentKeys()
        self._settler = Settler(self.store, self._sent, clock)
        self._leases = Leases(self.store, self._settler.running, clock)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to renew leases and to retry writes; needs a running loop."""
        self._tasks = [
            asyncio.create_task(self._leases.run(), name="idempotency leases"),
            asyncio.create_task(self._settler.run(), name="idempotency writes"),
        ]

    async def aclose(self, grace: float = 2.0) -> None:
        """Stop, with a last try of at most ``grace`` seconds to write what the store has not taken yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._settler.retry()
        await self.store.aclose()

    @property
    def running(self) -> int:
        """Executions of this process that are not settled in the store."""
        return len(self._settler.running)

    @property
    def unwritten(self) -> int:
        """Writes that the store has not taken yet."""
        return self._settler.pending

    async def fingerprint(
        self, policy: RoutePolicy, method: bytes, target: bytes, media_type: bytes, body: bytes
    ) -> Fingerprint:
        """The fingerprint of a request whose whole body is at hand (see :func:`fingerprint.take`)."""
        if policy.kind is not Kind.RAW and len(body) > _HEAVY_BODY:
            return await asyncio.to_thread(take, policy.kind, method, target, media_type, body)
        return take(policy.kind, method, target, media_type, body)

    async def claim(
        self, policy: RoutePolicy, record_id: str, fingerprint: Fingerprint, correlation_id: str
    ) -> Execution | UnprotectedExecution | Replay | Undecided:
        """Ask for the right to execute a request.

        Args:
            policy: The route's policy.
            record_id: From :meth:`RoutePolicy.record_id`.
            fingerprint: Of the whole request; a provisional one where the body streams.
            correlation_id: Of this request.

        Raises:
            KeyConflict: The key belongs to another request.
            DuplicateInProgress: The first request is still running (after waiting, if the policy says so).
            OutcomeUnknown: It was sent, and nobody knows its outcome.
            ResponseNotReplayable: Its response was too large to keep; ``details`` has ``original_status``.
            StoreUnavailable: The store is down, or what it holds cannot be read.
        """
        claim = Claim(
            record_id,
            random_bytes(TOKEN_BYTES),
            fingerprint.value,
            policy.route,
            correlation_id,
            policy.lease,
            policy.ttl,
            policy.store_timeout,
        )
        request = _Request(policy, claim, fingerprint)
        try:
            outcome = await self._try(request)
            if outcome is None:
                outcome = await self._wait(request)
        except StoreError as error:
            return self._without_store(request, error)
        except RecordUnreadableError as error:
            raise _store_down(f"the key's record cannot be read: {error}") from error
        return outcome

    async def decide(self, request: _Request) -> Replay:
        """See :meth:`Undecided.decide`."""
        try:
            outcome = await self._try(request) or await self._wait(request)
        except (StoreError, RecordUnreadableError) as error:
            raise _store_down(f"the key's record cannot be read: {error}") from error
        assert isinstance(outcome, Replay)
        return outcome

    async def _try(self, request: _Request, *, waited: bool = False) -> Execution | Replay | Undecided | None:
        """One look at the key; ``None`` while the first request runs."""
        record_id = request.claim.record_id
        running = self._settler.running.get(record_id)
        if running is not None:
            return await self._meet(request, _as_record(running), waited=waited)
        if request.body_gone:
            return await self._meet(request, await self._read(record_id), waited=waited)
        found = await self._ask(request.claim, watched=waited)
        if found is Granted.FRESH:
            running = self._settler.running.get(record_id)
            if running is not None:
                await self._reinstate(running, request.claim)
                return await self._meet(request, _as_record(running), waited=waited)
            if self._sent.holds(record_id, self._clock.monotonic()):
                await self._refuse_forgotten(request)
            return self._begin(request)
        if found is Granted.AGAIN:
            return self._begin_again(request)
        return await self._meet(request, found, waited=waited)

    async def _ask(
        self, claim: Claim, *, over: bytes | None = None, watched: bool = False
    ) -> Granted | Record:
        """Claim, and see to it that a claim which nobody waits for any more is taken back."""
        try:
            return await self.store.claim(claim, over=over, watched=watched)
        except StoreError as error:
            if error.maybe_done:
                self._settler.abandon(claim)
            raise
        except asyncio.CancelledError:
            self._settler.abandon(claim)
            raise

    async def _read(self, record_id: str) -> Record:
        """The record, for a request whose body is gone so that it cannot be executed."""
        record = await self.store.get(record_id)
        if record is None:
            raise _in_progress("the key has become free; send the request again")
        return record

    def _begin(self, request: _Request) -> Execution:
        policy, claim = request.policy, request.claim
        execution = Execution(policy, claim, self._settler, self._clock.monotonic())
        self._settler.running[claim.record_id] = execution
        return execution

    def _begin_again(self, request: _Request) -> Execution:
        """The key was sent before and has become free since, by an operator's word or the route's policy."""
        self._sent.forget(request.claim.record_id)
        return self._begin(request)

    async def _reinstate(self, running: Execution, intruder: Claim) -> None:
        """The store had lost the record of a request that runs here, and granted its place to another."""
        self._settler.abandon(intruder)
        await self.store.release(intruder)
        await self.store.claim(running.claim)

    async def _refuse_forgotten(self, request: _Request) -> None:
        """The store has lost the record of a key that was sent from here: refuse, and let others know."""
        if request.policy.reexecute:
            # Only completed requests are remembered on such a route. A record of an unknown outcome would
            # invite the next request to execute this one again.
            await self.store.release(request.claim)
        else:
            await self.store.mark_unknown(request.claim, Loss.FORGOTTEN)
        raise _unknown("the request was sent before, but the store has lost its record")

    async def _meet(
        self, request: _Request, record: Record, *, waited: bool
    ) -> Execution | Replay | Undecided | None:
        """What a request is told that finds ``record`` under its key."""
        verdict = judge(record, request.fingerprint.compare(record.fingerprint))
        if verdict is Verdict.CONFLICT:
            raise KeyConflict(
                "Idempotency key was already used with a different request payload", reason="conflict"
            )
        if verdict is Verdict.UNKNOWN and request.policy.reexecute:
            return await self._take_over(request, record, waited=waited)
        if request.fingerprint.is_provisional:
            return Undecided(self, request)
        return _tell(record, verdict, waited=waited)

    async def _take_over(
        self, request: _Request, record: Record, *, waited: bool
    ) -> Execution | Replay | Undecided | None:
        if request.body_gone:
            raise _in_progress("the key has become free; send the request again")
        found = await self._ask(request.claim, over=record.token, watched=waited)
        if isinstance(found, Granted):
            return self._begin_again(request)
        return await self._meet(request, found, waited=waited)

    async def _wait(self, request: _Request) -> Execution | Replay | Undecided:
        """Wait for the first request's response, or take its place when it was released."""
        policy, record_id = request.policy, request.claim.record_id
        if not policy.wait:
            raise _in_progress("A request with this idempotency key is already being processed")
        until = self._clock.monotonic() + policy.wait_timeout
        with await self.store.watch(record_id) as watch:
            while (left := until - self._clock.monotonic()) > 0:
                running = self._settler.running.get(record_id)
                if running is not None and running.response is None:
                    await running.settled(left)
                outcome = await self._try(request, waited=True)
                if outcome is not None:
                    return outcome
                if running is None:
                    await watch.news(min(_POLL, left))
        raise _in_progress("A request with this idempotency key is still being processed")

    def _without_store(self, request: _Request, error: StoreError) -> UnprotectedExecution:
        record_id = request.claim.record_id
        known = record_id in self._settler.running or self._sent.holds(record_id, self._clock.monotonic())
        if request.policy.store_open and not known:
            return UNPROTECTED
        raise _store_down(f"the idempotency store is unavailable: {error}") from error


def _as_record(running: Execution) -> Record:
    """An execution of this process as other requests see it, whatever the store has heard of it."""
    claim = running.claim
    return Record(
        id=claim.record_id,
        state=State.EXECUTING if running.response is None else State.COMPLETED,
        token=claim.token,
        fingerprint=claim.fingerprint,
        route=claim.route,
        correlation_id=claim.correlation_id,
        created_at=0.0,
        response=running.response,
    )


def _tell(record: Record, verdict: Verdict, *, waited: bool) -> Replay | None:
    if verdict is Verdict.IN_PROGRESS:
        return None
    if verdict is Verdict.UNKNOWN:
        raise _unknown("a request with this key was sent, but its outcome is not known")
    response = record.response
    assert response is not None
    if response.body is None:
        raise ResponseNotReplayable(
            "the request was executed, but its response was too large to be kept",
            reason="not_replayable",
            details={"original_status": response.status},
        )
    result = "waited" if waited else "replayed"
    return Replay(response.status, response.headers, response.body, record.correlation_id, result)


def _in_progress(message: str) -> DuplicateInProgress:
    return DuplicateInProgress(message, reason="in_progress", retry_after=_RETRY_AFTER)


def _unknown(message: str) -> OutcomeUnknown:
    return OutcomeUnknown(message, reason="unknown")


def _store_down(message: str) -> StoreUnavailable:
    return StoreUnavailable(message, reason="store_down", retry_after=_RETRY_AFTER)
