"""The right to execute a request, and the duty to say what came of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sidecar.errors import OutcomeUnknown
from sidecar.idempotency.record import Response

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from sidecar.idempotency.claim import Claim
    from sidecar.idempotency.core import Loss
    from sidecar.idempotency.fingerprint import Fingerprint
    from sidecar.idempotency.ledger import Ledger
    from sidecar.idempotency.policy import RoutePolicy


RENEWALS_PER_LEASE: Final = 3
"""A lease is renewed when a third of it is used up, so two attempts may fail before it runs out."""

NEVER: Final = float("inf")


class Execution:
    """A granted claim.

    Its owner calls one of ``complete``, ``complete_without_body``, ``release`` and ``mark_unknown``; a result
    that arrives after ``mark_unknown`` may still be completed. Further calls do nothing.

    Attributes:
        policy: The route's policy.
        claim: What the record holds; ``None`` where the execution is not protected.
        result: For ``idempotency_requests_total``: ``executed``, then perhaps ``released``, ``unknown``,
            ``not_stored``; ``unprotected`` from the beginning.
        response: The response, while the store does not take it.
        renew_at: When the lease is to be renewed, by the monotonic clock; ``NEVER`` once it is settled.
    """

    __slots__ = ("_done", "_ledger", "_waiters", "claim", "policy", "renew_at", "response", "result")

    protected = True

    def __init__(self, policy: RoutePolicy, claim: Claim, ledger: Ledger, now: float) -> None:
        self.policy = policy
        self.claim = claim
        self.result = "executed"
        self.response: Response | None = None
        self.renew_at = now + claim.lease / RENEWALS_PER_LEASE
        self._ledger = ledger
        self._waiters: list[asyncio.Future[None]] | None = None
        self._done = False

    def __repr__(self) -> str:
        return f"<Execution {self.claim.record_id[:12]} {self.result}>"

    async def body_passed(self, fingerprint: Fingerprint) -> None:
        """A streamed body has passed whole: fix the fingerprint that was provisional."""
        self.claim = self.claim.replace(fingerprint=fingerprint.value)
        await self._ledger.amend(self)

    def complete(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> Coroutine[Any, Any, bool]:
        """The whole response is here. A status that the policy does not keep frees the key.

        Returns:
            ``False`` if the response could not be stored now; the answer is then marked as not stored.
        """
        return self.keep(Response(status, self.policy.replayable(headers), body))

    def complete_without_body(self, status: int) -> Coroutine[Any, Any, bool]:
        """A response too large to keep is about to end; like :meth:`complete`, but it cannot be replayed."""
        return self.keep(Response(status, (), None))

    async def keep(self, response: Response) -> bool:
        """The same for a response whose headers are those that are replayed."""
        if not self.policy.keeps(response.status):
            await self.release()
        elif not self._done:
            self._done = True
            self.result = await self._ledger.complete(self, response)
        return self.result != "not_stored"

    async def release(self) -> None:
        """Nothing was sent, or what came back is not to be kept: the key is free again."""
        if self._done or self.result == "unknown":
            return
        self._done = True
        self.result = "released"
        await self._ledger.release(self)

    async def mark_unknown(self, loss: Loss) -> OutcomeUnknown | None:
        """Something was sent and no whole response came.

        Returns:
            What the client is told in place of the plain error; ``None`` where the plain error stands,
            because the route executes such a key again.
        """
        if not self._done and self.result != "unknown":
            self.result = "unknown"
            await self._ledger.lose(self, loss)
        if self.policy.reexecute:
            return None
        return OutcomeUnknown(
            "the request was sent, but its outcome is not known; it will not be sent again under this key",
            reason="unknown",
            status=504,
        )

    def forsake(self, *, sent: bool) -> None:
        """Nobody will say any more what came of it: its lease runs out, and leaves an unknown outcome.

        Args:
            sent: Whether the request may have reached the upstream.
        """
        if not self._done and self.result != "unknown":
            self._done = True
            self.result = "unknown"
            self._ledger.forsake(self, sent=sent)

    async def settled(self, seconds: float) -> None:
        """Return when the execution is settled, or after ``seconds``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiter
        finally:
            self._waiters.remove(waiter)

    def wake(self) -> None:
        """It is settled: let those who wait look again."""
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)


class UnprotectedExecution:
    """Execution without a record, because the store is down and the route prefers answers to protection.

    It is called like an :class:`Execution` and does nothing.
    """

    __slots__ = ()

    protected = False
    result = "unprotected"

    async def body_passed(self, fingerprint: Fingerprint) -> None:
        """Nothing to fix."""

    async def complete(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:  # noqa: ARG002
        """Nothing to keep."""
        return True

    async def complete_without_body(self, status: int) -> bool:  # noqa: ARG002
        """Nothing to keep."""
        return True

    async def keep(self, response: Response) -> bool:  # noqa: ARG002
        """Nothing to keep."""
        return True

    async def release(self) -> None:
        """Nothing to free."""

    async def mark_unknown(self, loss: Loss) -> None:
        """The plain error stands."""

    def forsake(self, *, sent: bool) -> None:
        """Nothing to leave behind."""


UNPROTECTED: Final = UnprotectedExecution()
