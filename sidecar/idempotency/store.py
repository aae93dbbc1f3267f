"""What a store of records can do. Each method is one intention and one atomic step.

Every write but the claim shows the claim's token and changes nothing where the record holds another one.
Each may be sent twice (a reply can be lost): the second time changes nothing and is answered the same, or
with GONE where the first one removed the record. Leases and times to live are judged by the store's own
clock.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.idempotency.claim import Claim
    from sidecar.idempotency.core import Loss, State
    from sidecar.idempotency.record import Record, Response
    from sidecar.idempotency.watch import Watch


class StoreError(Exception):
    """The store cannot be used now.

    Attributes:
        reason: One word for logs and metrics: ``refused``, ``timeout``, ``full``, ``read_only`` …
        maybe_done: Whether the operation may have been carried out all the same, or may still be.
    """

    def __init__(self, message: str, *, reason: str, maybe_done: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.maybe_done = maybe_done


NOBODY: Final = bytes(16)
"""The token of a record that an operator has resolved: no claim can settle it any more."""


class Granted(enum.Enum):
    """How a claim was granted."""

    FRESH = enum.auto()
    """There was no record."""
    AGAIN = enum.auto()
    """An operator had freed the key, or the claim took over an unknown outcome: it was sent before."""


class Settled(enum.Enum):
    """What came of a write."""

    DONE = enum.auto()
    GONE = enum.auto()
    """There is no record: it has expired, or the store has lost it."""
    LOST = enum.auto()
    """The record holds another token, or is in a state that does not allow the step."""


class Page(NamedTuple):
    """A part of a listing.

    Attributes:
        items: Records, without their responses' headers and bodies. May be empty although more follow.
        cursor: Where the next page begins, or ``None`` after the last.
    """

    items: list[Record]
    cursor: str | None


class IdempotencyStore(Protocol):
    """A store of records.

    Every method raises :class:`StoreError` where the store cannot be used, and
    :class:`~sidecar.idempotency.core.RecordUnreadableError` where the record cannot be read.
    """

    async def claim(
        self, claim: Claim, *, over: bytes | None = None, watched: bool = False
    ) -> Granted | Record:
        """Put an executing record in an empty place, or return the record that is there.

        A record with the claim's own token counts as granted: the first reply was lost. An executing record
        whose lease has run out becomes unknown before it is returned.

        Args:
            claim: What to write.
            over: Token of a record with an unknown outcome that is to be taken over.
            watched: Whether a :meth:`watch` is to have news when the record that is there is settled.
        """
        ...

    async def renew(self, claims: Sequence[Claim]) -> list[Settled]:
        """Extend the leases of executing records, many at once."""
        ...

    async def amend(self, claim: Claim) -> Settled:
        """Write ``claim.fingerprint`` in place of the provisional one, once the body has passed."""
        ...

    async def complete(self, claim: Claim, response: Response) -> Settled:
        """Keep the response for ``claim.ttl`` seconds from now."""
        ...

    async def release(self, claim: Claim) -> Settled:
        """Remove an executing record: nothing was sent, or the response is one that is not kept."""
        ...

    async def mark_unknown(self, claim: Claim, loss: Loss) -> Settled:
        """Record that the request was sent and its outcome is not known."""
        ...

    async def get(self, record_id: str) -> Record | None:
        """The record as it stands, with a run-out lease shown as such."""
        ...

    async def page(
        self,
        *,
        state: State | None = None,
        route: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Records in no particular order: each that is there all the while at least once.

        Raises:
            ValueError: ``cursor`` is not one that this store gave out.
        """
        ...

    async def resolve(self, record_id: str, response: Response, ttl: float) -> Settled:
        """By an operator's word, complete a record whose outcome is unknown or whose lease has run out."""
        ...

    async def free(self, record_id: str) -> Settled:
        """By an operator's word, free a key whose outcome is unknown or whose lease has run out."""
        ...

    async def watch(self, record_id: str) -> Watch:
        """Be ready to hear of the record's settlement by any process; entered before a watched claim."""
        ...

    async def check(self) -> None:
        """Return if the store can be reached."""
        ...

    async def weaknesses(self) -> list[str]:
        """What about the store weakens the guarantee, one sentence each, for the log at the start."""
        ...

    async def aclose(self) -> None:
        """Give back connections; nothing may be called afterwards."""
        ...
