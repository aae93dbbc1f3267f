"""What one process has to do with the store: its claims, its executions, what came of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.idempotency.core import RecordUnreadableError
from sidecar.idempotency.execution import NEVER, Execution
from sidecar.idempotency.store import Granted, Settled, StoreError

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.idempotency.claim import Claim
    from sidecar.idempotency.core import Loss
    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.record import Record, Response
    from sidecar.idempotency.sent import SentKeys
    from sidecar.idempotency.store import IdempotencyStore

MOST_PENDING: Final = 10_000
MOST_PENDING_BYTES: Final = 64 << 20

_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0
# The sidecar's memory must not outlive the store's record, however their clocks differ.
_CLOCK_DRIFT: Final = 0.001

# An enumeration's members are looked up by a function of their class, which every request would pay for.
_DONE: Final = Settled.DONE
_GONE: Final = Settled.GONE

_logger = logging.getLogger(__name__)


Observe = Callable[[str, float], None]


def _ignore(operation: str, seconds: float) -> None:
    """The default for ``observe``."""


class _Pending(NamedTuple):
    """A write that the store has not taken yet: the response to keep, or a claim to release."""

    claim: Claim
    response: Response | None
    execution: Execution | None


class Ledger:
    """What this process claims, executes and has to write down.

    What the store does not take is retried in the background. There is a bound to that: bodies beyond 64
    MiB in all are dropped (the record will say that the response cannot be replayed), and so are writes
    beyond 10,000 (the leases run out, and the store will show unknown outcomes).

    Attributes:
        store: Where records live.
        now: The monotonic clock.
        running: Executions of this process by record id, until the store knows their outcome.

    Args:
        store: Where records live.
        sent: Memory of keys that were sent.
        clock: For this process's own times.
        observe: Told how long requests waited for the store.
        shared: Whether other processes look into ``sent``, too.
    """

    __slots__ = (
        "_observe",
        "_pending",
        "_pending_bytes",
        "_sent",
        "_shared",
        "_work",
        "now",
        "running",
        "store",
    )

    def __init__(
        self,
        store: IdempotencyStore,
        sent: SentKeys,
        clock: Clock,
        observe: Observe | None,
        *,
        shared: bool,
    ) -> None:
        self.store = store
        self.running: dict[str, Execution] = {}
        self.now = clock.monotonic
        self._sent = sent
        self._shared = shared
        self._observe = observe or _ignore
        self._pending: dict[bytes, _Pending] = {}
        self._pending_bytes = 0
        self._work = asyncio.Event()

    @property
    def pending(self) -> int:
        """Writes that the store has not taken yet."""
        return len(self._pending)

    async def ask(
        self, claim: Claim, *, over: bytes | None = None, watched: bool = False
    ) -> Granted | Record:
        """Claim, and see to it that a claim which nobody waits for any more is taken back.

        Raises:
            StoreError: The store is down.
            RecordUnreadableError: What stands there cannot be read.
        """
        started = self.now()
        try:
            return await self.store.claim(claim, over=over, watched=watched)
        except StoreError as error:
            if error.maybe_done:
                self.abandon(claim)
            raise
        except asyncio.CancelledError:
            self.abandon(claim)
            raise
        finally:
            self._observe("claim", self.now() - started)

    def remembers(self, record_id: str) -> bool:
        """Whether the key was sent from here, whatever the store says."""
        return self._sent.holds(record_id, self.now())

    def knows(self, record_id: str) -> bool:
        """Whether the key was sent from here, or is being executed now."""
        return record_id in self.running or self._sent.holds(record_id, self.now())

    def begin(self, policy: RoutePolicy, claim: Claim) -> Execution:
        """A claim was granted: an execution begins."""
        execution = self.running[claim.record_id] = Execution(policy, claim, self, self.now())
        if self._shared:
            # What runs here is known to this process; the others can only know it from what is shared.
            self._sent.add(claim.record_id, self.now() + claim.lease + claim.ttl)
        return execution

    def begin_again(self, policy: RoutePolicy, claim: Claim) -> Execution:
        """The same for a key that was sent before and was freed by an operator or the route's policy."""
        self._sent.forget(claim.record_id)
        return self.begin(policy, claim)

    async def reinstate(self, running: Execution, intruder: Claim) -> None:
        """Put the record of an execution that the store had lost in the place of another claim."""
        self.abandon(intruder)
        await self.store.release(intruder)
        await self.store.claim(running.claim)

    async def amend(self, execution: Execution) -> None:
        """Fix the fingerprint; where that fails, the write that settles the record carries it too."""
        try:
            await self.store.amend(execution.claim)
        except StoreError as error:
            _logger.info("the fingerprint of %r will be stored with its outcome: %s", execution, error)

    async def complete(self, execution: Execution, response: Response) -> str:
        """Keep the response; ``executed``, or ``not_stored`` if the store did not take it now."""
        execution.renew_at = NEVER
        claim = execution.claim
        started = self.now()
        self._remember(claim, started)
        try:
            settled = await self.store.complete(claim, response)
        except BaseException as error:
            self._postpone(_Pending(claim, response, execution))
            if isinstance(error, StoreError):
                return "not_stored"
            raise
        finally:
            self._observe("complete", self.now() - started)
        if settled is _DONE:
            self._finish(execution, settled)
            return "executed"
        if settled is _GONE:
            self._postpone(_Pending(claim, response, execution))
        else:
            self._finish(execution, settled)
        return "not_stored"

    async def release(self, execution: Execution) -> None:
        """Free the key."""
        execution.renew_at = NEVER
        self._forget(execution.claim)
        started = self.now()
        try:
            await self.store.release(execution.claim)
        except StoreError:
            self.abandon(execution.claim)
        except BaseException:
            self.abandon(execution.claim)
            raise
        finally:
            self._observe("release", self.now() - started)
            self._finish(execution)

    async def lose(self, execution: Execution, loss: Loss) -> None:
        """Record that the outcome is unknown. Where that fails, the lease runs out to the same effect."""
        execution.renew_at = NEVER
        if execution.policy.reexecute:
            self._forget(execution.claim)
        else:
            self._remember(execution.claim, self.now())
        started = self.now()
        try:
            await self.store.mark_unknown(execution.claim, loss)
        except StoreError as error:
            _logger.warning("cannot record the unknown outcome of %r: %s", execution, error)
        finally:
            self._observe("mark_unknown", self.now() - started)
            self._finish(execution)

    def forsake(self, execution: Execution, *, sent: bool) -> None:
        """Renew its lease no longer; the store finds out by itself that its outcome is unknown."""
        execution.renew_at = NEVER
        if sent and not execution.policy.reexecute:
            self._remember(execution.claim, self.now())
        self._finish(execution)

    def abandon(self, claim: Claim) -> None:
        """Nobody waits for this claim any more, but it may be granted all the same: take it back."""
        self._postpone(_Pending(claim, None, None))

    async def run(self) -> None:
        """Retry what the store did not take, until cancelled."""
        while True:
            await self._work.wait()
            delay = _FIRST_DELAY
            while self._pending:
                if not await self.retry():
                    delay = min(2 * delay, _LONGEST_DELAY)
                await asyncio.sleep(delay)
            self._work.clear()

    async def retry(self) -> bool:
        """Try every pending write once, oldest first, until one fails.

        Returns:
            Whether all were taken.
        """
        for token, pending in list(self._pending.items()):
            try:
                settled = await self._write(pending)
            except StoreError:
                return False
            self._pending.pop(token, None)
            self._pending_bytes -= _body_bytes(pending)
            if pending.execution is not None:
                self._finish(pending.execution, settled)
        return True

    async def _write(self, pending: _Pending) -> Settled:
        claim, response = pending.claim, pending.response
        if response is None:
            return await self.store.release(claim)
        settled = await self.store.complete(claim, response)
        if settled is not Settled.GONE:
            return settled
        # The store has lost the record of a key that was executed: take its place again, then complete it.
        try:
            granted = await self.store.claim(claim)
        except RecordUnreadableError:
            return Settled.LOST
        if isinstance(granted, Granted):
            return await self.store.complete(claim, response)
        return Settled.LOST

    def _finish(self, execution: Execution, settled: Settled = _DONE) -> None:
        """The store knows, or will find out by itself."""
        execution.response = None
        if self.running.get(execution.claim.record_id) is execution:
            del self.running[execution.claim.record_id]
        execution.wake()
        if settled is not _DONE:
            _logger.warning("%r was not stored: its record was settled otherwise", execution)

    def _remember(self, claim: Claim, now: float) -> None:
        self._sent.add(claim.record_id, now + claim.ttl * (1 - _CLOCK_DRIFT))

    def _forget(self, claim: Claim) -> None:
        if self._shared:
            self._sent.forget(claim.record_id)

    def _postpone(self, pending: _Pending) -> None:
        execution, response = pending.execution, pending.response
        if len(self._pending) >= MOST_PENDING:
            _logger.error(
                "too many writes wait for the store: %s is left to its lease", pending.claim.record_id
            )
            if execution is not None:
                self._finish(execution)
            return
        if response is not None and self._pending_bytes + _body_bytes(pending) > MOST_PENDING_BYTES:
            response = response.without_body()
            pending = pending._replace(response=response)
        self._pending_bytes += _body_bytes(pending)
        if execution is not None:
            execution.response = response
            execution.wake()
        self._pending[pending.claim.token] = pending
        self._work.set()


def _body_bytes(pending: _Pending) -> int:
    if pending.response is None or pending.response.body is None:
        return 0
    return len(pending.response.body)
