"""A store that says how long its operations take."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sidecar.clock import Clock
    from sidecar.idempotency.core import Loss, Record, Response, State
    from sidecar.idempotency.store import Claim, Granted, IdempotencyStore, Page, Settled
    from sidecar.idempotency.watch import Watch

T = TypeVar("T")


class TimedStore:
    """Passes everything on to ``store`` and calls ``observe`` with each operation's name and seconds."""

    __slots__ = ("_now", "_observe", "_store")

    def __init__(self, store: IdempotencyStore, observe: Callable[[str, float], None], clock: Clock) -> None:
        self._store = store
        self._observe = observe
        self._now = clock.monotonic

    async def claim(
        self, claim: Claim, *, over: bytes | None = None, watched: bool = False
    ) -> Granted | Record:
        """See :meth:`IdempotencyStore.claim`."""
        return await self._time("claim", self._store.claim(claim, over=over, watched=watched))

    async def renew(self, claims: Sequence[Claim]) -> list[Settled]:
        """See :meth:`IdempotencyStore.renew`."""
        return await self._time("renew", self._store.renew(claims))

    async def amend(self, claim: Claim) -> Settled:
        """See :meth:`IdempotencyStore.amend`."""
        return await self._time("amend", self._store.amend(claim))

    async def complete(self, claim: Claim, response: Response) -> Settled:
        """See :meth:`IdempotencyStore.complete`."""
        return await self._time("complete", self._store.complete(claim, response))

    async def release(self, claim: Claim) -> Settled:
        """See :meth:`IdempotencyStore.release`."""
        return await self._time("release", self._store.release(claim))

    async def mark_unknown(self, claim: Claim, loss: Loss) -> Settled:
        """See :meth:`IdempotencyStore.mark_unknown`."""
        return await self._time("mark_unknown", self._store.mark_unknown(claim, loss))

    async def get(self, record_id: str) -> Record | None:
        """See :meth:`IdempotencyStore.get`."""
        return await self._time("get", self._store.get(record_id))

    async def page(
        self,
        *,
        state: State | None = None,
        route: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """See :meth:`IdempotencyStore.page`."""
        page = self._store.page(state=state, route=route, cursor=cursor, limit=limit)
        return await self._time("page", page)

    async def resolve(self, record_id: str, response: Response, ttl: float) -> Settled:
        """See :meth:`IdempotencyStore.resolve`."""
        return await self._time("resolve", self._store.resolve(record_id, response, ttl))

    async def free(self, record_id: str) -> Settled:
        """See :meth:`IdempotencyStore.free`."""
        return await self._time("free", self._store.free(record_id))

    async def watch(self, record_id: str) -> Watch:
        """See :meth:`IdempotencyStore.watch`."""
        return await self._store.watch(record_id)

    async def check(self) -> None:
        """See :meth:`IdempotencyStore.check`."""
        await self._store.check()

    async def aclose(self) -> None:
        """See :meth:`IdempotencyStore.aclose`."""
        await self._store.aclose()

    async def _time(self, operation: str, answer: Awaitable[T]) -> T:
        started = self._now()
        try:
            return await answer
        finally:
            self._observe(operation, self._now() - started)
