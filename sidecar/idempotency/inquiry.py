"""A request that asks for its key and is not the first one: what it finds, what it is told, how it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.errors import (
    DuplicateInProgress,
    KeyConflict,
    OutcomeUnknown,
    ResponseNotReplayable,
    StoreUnavailable,
)
from sidecar.idempotency.core import Loss, RecordUnreadableError, State, Verdict, judge
from sidecar.idempotency.fingerprint import SAME
from sidecar.idempotency.record import Record
from sidecar.idempotency.store import Granted, StoreError

if TYPE_CHECKING:
    from sidecar.idempotency.claim import Claim
    from sidecar.idempotency.execution import Execution
    from sidecar.idempotency.fingerprint import Fingerprint
    from sidecar.idempotency.ledger import Ledger
    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.record import Headers

_POLL = 0.5  # seconds; a waiting duplicate looks again although nobody called: the call may have been lost
_RETRY_AFTER = 1.0


class Replay:
    """The first request's response, to be sent again.

    Attributes:
        status: HTTP status code.
        headers: Without framing, hop-by-hop fields and what belongs to the first delivery.
        body: The whole body.
        correlation_id: Of the request that was executed.
        result: For ``idempotency_requests_total``: ``replayed`` or ``waited``.
        span: Trace id and span id of the same request, 24 raw bytes; empty if it was not sampled.
    """

    __slots__ = ("body", "correlation_id", "headers", "result", "span", "status")

    def __init__(
        self, status: int, headers: Headers, body: bytes, *, correlation_id: str, result: str, span: bytes
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.correlation_id = correlation_id
        self.result = result
        self.span = span

    def __repr__(self) -> str:
        return f"<Replay of {self.correlation_id}: {self.status}, {len(self.body)} bytes>"


class Undecided:
    """A duplicate with a streamed body: it has to be hashed to its end before it can be told anything.

    It will not be executed, so nothing of it needs to be kept.
    """

    __slots__ = ("_inquiry",)

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry

    async def decide(self, fingerprint: Fingerprint) -> Replay:
        """What the request is told, now that its whole body has passed.

        Raises:
            SidecarError: As :meth:`Engine.claim` does. Where the key has become free meanwhile, the client is
                told to try again: its body is gone.
        """
        try:
            return await self._inquiry.decide(fingerprint)
        except (StoreError, RecordUnreadableError) as error:
            raise store_down(f"the key's record cannot be read: {error}") from error


class Inquiry:
    """One request's question for its key.

    Args:
        ledger: Of this process.
        policy: The route's.
        claim: What the request would write.
        fingerprint: Of the request.
    """

    __slots__ = ("_body_gone", "_claim", "_fingerprint", "_ledger", "_policy", "_result")

    def __init__(self, ledger: Ledger, policy: RoutePolicy, claim: Claim, fingerprint: Fingerprint) -> None:
        self._ledger = ledger
        self._policy = policy
        self._claim = claim
        self._fingerprint = fingerprint
        self._body_gone = False
        self._result = "replayed"

    def replay(self, record: Record) -> Replay | None:
        """The response in ``record``, if that is plainly what the request is told: almost always."""
        response = record.response
        if response is None or response.body is None:
            return None
        return self._replay(record) if self._fingerprint.compare(record.fingerprint) is SAME else None

    async def answer(self, found: Granted | Record | None) -> Execution | Replay | Undecided:
        """What the request may do or is told, having found ``found`` (``None``: it has not looked yet).

        Raises:
            SidecarError: See :meth:`Engine.claim`.
            StoreError: The store is down.
            RecordUnreadableError: The record cannot be read.
        """
        outcome = await self._look() if found is None else await self._meet(found)
        if outcome is not None:
            return outcome
        return await asyncio.create_task(self._wait())  # its timeouts need a current task

    async def decide(self, fingerprint: Fingerprint) -> Replay:
        """See :meth:`Undecided.decide`."""
        self._fingerprint = fingerprint
        self._body_gone = True
        outcome = await self.answer(None)
        assert isinstance(outcome, Replay)
        return outcome

    async def _look(self) -> Execution | Replay | Undecided | None:
        """Look at the key once more; ``None`` while the first request runs."""
        record_id = self._claim.record_id
        running = self._ledger.running.get(record_id)
        if running is not None:
            return await self._judge(_as_record(running))
        if not self._body_gone:
            return await self._meet(await self._ledger.ask(self._claim, watched=self._result == "waited"))
        record = await self._ledger.store.get(record_id)
        if record is None:
            raise _in_progress("the key has become free; send the request again")
        return await self._judge(record)

    async def _meet(self, found: Granted | Record) -> Execution | Replay | Undecided | None:
        if isinstance(found, Record):
            return await self._judge(found)
        if found is Granted.AGAIN:
            return self._ledger.begin_again(self._policy, self._claim)
        running = self._ledger.running.get(self._claim.record_id)
        if running is not None:
            # The store had lost the record of a request that runs here, and granted its place to this one.
            await self._ledger.reinstate(running, self._claim)
            return await self._judge(_as_record(running))
        if self._ledger.remembers(self._claim.record_id):
            await self._refuse_forgotten()
        return self._ledger.begin(self._policy, self._claim)

    async def _refuse_forgotten(self) -> None:
        """The store has lost the record of a key that was sent from here: refuse, and let others know."""
        if self._policy.reexecute:
            # Only completed requests are remembered on such a route. A record of an unknown outcome would
            # invite the next request to execute this one again.
            await self._ledger.store.release(self._claim)
        else:
            await self._ledger.store.mark_unknown(self._claim, Loss.FORGOTTEN)
        raise _unknown("the request was sent before, but the store has lost its record")

    async def _judge(self, record: Record) -> Execution | Replay | Undecided | None:
        """What a request is told that finds ``record`` under its key."""
        verdict = judge(record, self._fingerprint.compare(record.fingerprint))
        if verdict is Verdict.CONFLICT:
            raise KeyConflict(
                "Idempotency key was already used with a different request payload", reason="conflict"
            )
        if verdict is Verdict.UNKNOWN and self._policy.reexecute:
            return await self._take_over(record)
        if self._fingerprint.is_provisional:
            return Undecided(self)
        if verdict is Verdict.IN_PROGRESS:
            return None
        if verdict is Verdict.UNKNOWN:
            raise _unknown("a request with this key was sent, but its outcome is not known")
        return self._replay(record)

    def _replay(self, record: Record) -> Replay:
        response = record.response
        assert response is not None
        if response.body is None:
            raise ResponseNotReplayable(
                "the request was executed, but its response was too large to be kept",
                reason="not_replayable",
                details={"original_status": response.status},
            )
        return Replay(
            response.status,
            response.headers,
            response.body,
            correlation_id=record.correlation_id,
            result=self._result,
            span=record.span,
        )

    async def _take_over(self, record: Record) -> Execution | Replay | Undecided | None:
        if self._body_gone:
            raise _in_progress("the key has become free; send the request again")
        return await self._meet(await self._ledger.ask(self._claim, over=record.token))

    async def _wait(self) -> Execution | Replay | Undecided:
        """Wait for the first request's response, or take its place when it was released."""
        if not self._policy.wait:
            raise _in_progress("A request with this idempotency key is already being processed")
        self._result = "waited"
        record_id, ledger = self._claim.record_id, self._ledger
        until = ledger.now() + self._policy.wait_timeout
        with await ledger.store.watch(record_id) as watch:
            while (left := until - ledger.now()) > 0:
                running = ledger.running.get(record_id)
                if running is not None and running.response is None:
                    await running.settled(left)
                outcome = await self._look()
                if outcome is not None:
                    return outcome
                if running is None:
                    await watch.news(min(_POLL, left))
        raise _in_progress("A request with this idempotency key is still being processed")


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
        span=claim.span,
    )


def _in_progress(message: str) -> DuplicateInProgress:
    return DuplicateInProgress(message, reason="in_progress", retry_after=_RETRY_AFTER)


def _unknown(message: str) -> OutcomeUnknown:
    return OutcomeUnknown(message, reason="unknown")


def store_down(message: str) -> StoreUnavailable:
    """What a request is told when its key cannot be looked up."""
    return StoreUnavailable(message, reason="store_down", retry_after=_RETRY_AFTER)
