"""What the proxy and the ASGI middleware call: is a request with a key executed, replayed or refused?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.core import TOKEN_BYTES, RecordUnreadableError
from sidecar.idempotency.execution import UNPROTECTED, Execution, UnprotectedExecution
from sidecar.idempotency.fingerprint import Kind, take
from sidecar.idempotency.inquiry import Inquiry, Replay, Undecided, store_down
from sidecar.idempotency.leases import Leases
from sidecar.idempotency.ledger import Ledger
from sidecar.idempotency.record import Record
from sidecar.idempotency.sent import SentKeys
from sidecar.idempotency.store import Granted, StoreError
from sidecar.ids import random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.clock import Clock
    from sidecar.idempotency.fingerprint import Fingerprint
    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.store import IdempotencyStore

__all__ = ["Engine", "Execution", "Replay", "Undecided", "UnprotectedExecution"]

_HEAVY_BODY: Final = 64 << 10
_RAW: Final = Kind.RAW
_FRESH: Final = Granted.FRESH


def is_heavy(policy: RoutePolicy, body: bytes) -> bool:
    """Whether the body's fingerprint takes so long that it would hold up the loop for milliseconds."""
    return len(body) > _HEAVY_BODY and policy.kind is not _RAW


class Engine:
    """Idempotency for one process.

    Args:
        store: Where records live.
        clock: For this process's own times; leases go by the store's clock.
        sent: Memory of keys that were sent; workers share one.
        observe: Called with the name of an operation of the store that a request waited for (``claim``,
            ``complete``, ``release``, ``mark_unknown``) and the seconds that it took.

    Attributes:
        store: Where records live.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        *,
        clock: Clock = SYSTEM_CLOCK,
        sent: SentKeys | None = None,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self.store = store
        self._ledger = Ledger(store, sent or SentKeys(), clock, observe, shared=sent is not None)
        self._leases = Leases(store, self._ledger.running, clock)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to renew leases and to retry writes; needs a running loop."""
        self._tasks = [
            asyncio.create_task(self._leases.run(), name="idempotency leases"),
            asyncio.create_task(self._ledger.run(), name="idempotency writes"),
        ]

    async def aclose(self, grace: float = 2.0) -> None:
        """Stop, with a last try of at most ``grace`` seconds to write what the store has not taken yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._ledger.retry()
        await self.store.aclose()

    @property
    def running(self) -> int:
        """Executions of this process that are not settled in the store."""
        return len(self._ledger.running)

    @property
    def unwritten(self) -> int:
        """Writes that the store has not taken yet."""
        return self._ledger.pending

    async def fingerprint(
        self, policy: RoutePolicy, method: bytes, target: bytes, media_type: bytes, body: bytes
    ) -> Fingerprint:
        """The fingerprint of a request whose whole body is at hand (see :func:`fingerprint.take`)."""
        if is_heavy(policy, body):
            return await asyncio.to_thread(take, policy.kind, method, target, media_type, body)
        return take(policy.kind, method, target, media_type, body)

    async def claim(
        self,
        policy: RoutePolicy,
        record_id: str,
        fingerprint: Fingerprint,
        correlation_id: str,
        span: bytes = b"",
    ) -> Execution | UnprotectedExecution | Replay | Undecided:
        """Ask for the right to execute a request.

        Args:
            policy: The route's policy.
            record_id: From :meth:`RoutePolicy.record_id`.
            fingerprint: Of the whole request; a provisional one where the body streams.
            correlation_id: Of this request.
            span: Its trace id and span id, 24 raw bytes, if it is sampled: replays link to it.

        Raises:
            KeyConflict: The key belongs to another request.
            DuplicateInProgress: The first request is still running (after waiting, if the policy says so).
            OutcomeUnknown: It was sent, and nobody knows its outcome.
            ResponseNotReplayable: Its response was too large to keep; ``details`` has ``original_status``.
            StoreUnavailable: The store is down, or what it holds cannot be read.
        """
        ledger = self._ledger
        claim = Claim(
            record_id,
            random_bytes(TOKEN_BYTES),
            fingerprint.value,
            policy.route,
            correlation_id,
            policy.lease,
            policy.ttl,
            policy.store_timeout,
            span,
        )
        try:
            found = None
            if record_id not in ledger.running:
                found = await ledger.ask(claim)
                if found is _FRESH and not ledger.knows(record_id):
                    return ledger.begin(policy, claim)  # the way of almost every request
            inquiry = Inquiry(ledger, policy, claim, fingerprint)
            replay = inquiry.replay(found) if isinstance(found, Record) else None
            return replay or await inquiry.answer(found)
        except StoreError as error:
            if policy.store_open and not ledger.knows(record_id):
                return UNPROTECTED
            raise store_down(f"the idempotency store is unavailable: {error}") from error
        except RecordUnreadableError as error:
            raise store_down(f"the key's record cannot be read: {error}") from error
