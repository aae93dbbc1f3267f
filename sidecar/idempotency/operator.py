"""What operators can see and do: the admin API calls this, and tells in the log who decided what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.idempotency.key import parse_key
from sidecar.idempotency.record import Response
from sidecar.idempotency.store import Settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.idempotency.core import State
    from sidecar.idempotency.policy import RoutePolicy
    from sidecar.idempotency.record import Record
    from sidecar.idempotency.store import IdempotencyStore, Page

LONGEST_PAGE = 1000
DEFAULT_TTL = 86_400.0
"""Seconds that a resolved record of a route that is no longer configured is kept."""


class RecordNotFoundError(LookupError):
    """There is no such record (404)."""


class RecordBusyError(Exception):
    """The record is executing under a lease, or completed: only an unknown outcome can be decided (409)."""


class Operator:
    """Reads records and decides unknown outcomes.

    Args:
        store: Where records live.
        policies: The routes' policies by name.
    """

    def __init__(self, store: IdempotencyStore, policies: Mapping[str, RoutePolicy]) -> None:
        self._store = store
        self._policies = policies

    async def page(
        self,
        *,
        state: State | None = None,
        route: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """A page of records; ``limit`` is 1 to 1000.

        Raises:
            ValueError: A limit out of range, or a cursor that was not given out.
            StoreError: The store is down.
        """
        if not 1 <= limit <= LONGEST_PAGE:
            raise ValueError(f"limit is 1 to {LONGEST_PAGE}, not {limit}")
        return await self._store.page(state=state, route=route, cursor=cursor, limit=limit)

    async def get(self, record_id: str) -> Record:
        """One record.

        Raises:
            RecordNotFoundError: There is none.
            StoreError: The store is down.
        """
        record = await self._store.get(record_id)
        if record is None:
            raise RecordNotFoundError(f"no idempotency record {record_id}")
        return record

    async def find(self, route: str, key: bytes, headers: Mapping[str, str]) -> Record:
        """The record of a key.

        Args:
            route: Name of the route.
            key: As it was sent.
            headers: The caller's headers; those of the route's scope are used.

        Raises:
            IdempotencyKeyInvalid: The key is malformed.
            RecordNotFoundError: No such route, or no record.
            StoreError: The store is down.
        """
        policy = self._policies.get(route)
        if policy is None:
            raise RecordNotFoundError(f"no route {route}")
        given = {name.lower().encode(): value.encode() for name, value in headers.items()}
        caller = [[given[name]] if name in given else [] for name in policy.scope]
        return await self.get(policy.record_id(caller, parse_key([key])))

    async def release(self, record_id: str) -> None:
        """Free the key of a record whose outcome is unknown or whose lease has run out.

        Raises:
            RecordNotFoundError: There is none.
            RecordBusyError: It is executing or completed.
            StoreError: The store is down.
        """
        self._check(record_id, await self._store.free(record_id))

    async def resolve(
        self, record_id: str, *, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Decide an unknown outcome: from now on the key is answered with this response.

        Raises:
            RecordNotFoundError: There is none.
            RecordBusyError: It is executing or completed.
            StoreError: The store is down.
            ValueError: The status is not one of a final response, or a header has a line end.
        """
        if not 200 <= status <= 599:  # noqa: PLR2004 - RFC 9110, section 15
            raise ValueError(f"status is 200 to 599, not {status}")
        if any(octet in name + value for name, value in headers for octet in (b"\r", b"\n", b"\0")):
            raise ValueError("a header's name or value holds a line end or NUL")
        policy = self._policies.get((await self.get(record_id)).route)
        kept = policy.replayable(headers) if policy is not None else tuple(headers)
        ttl = policy.ttl if policy is not None else DEFAULT_TTL
        self._check(record_id, await self._store.resolve(record_id, Response(status, kept, body), ttl))

    @staticmethod
    def _check(record_id: str, settled: Settled) -> None:
        if settled is Settled.GONE:
            raise RecordNotFoundError(f"no idempotency record {record_id}")
        if settled is Settled.LOST:
            raise RecordBusyError(f"idempotency record {record_id} is executing or completed, not unknown")
