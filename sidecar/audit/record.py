"""A row of ``request_changes`` before it has its place in the chain, and a change that cannot become one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

OK: Final = "ok"
"""The upstream answered 2xx."""

ERROR: Final = "error"
"""The upstream answered otherwise."""

UNKNOWN: Final = "unknown"
"""The request was sent, and nobody knows whether it took effect."""

NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"
"""Stands for an id that only the response could have told."""

INTENTS: Final = "audit.intents"
"""Spool queue of rows whose request is on its way; each reads as *unknown* until it is settled."""

ROWS: Final = "audit.rows"
"""Spool queue of rows that wait for PostgreSQL."""

REJECTED: Final = "audit.rejected"
"""Spool queue of what could not become a row, with the reason; kept until somebody has looked."""


@dataclass(slots=True)
class AuditRow:
    """One row; JSON values are texts, ids are UUIDs in lower case.

    Attributes:
        created_at: Microseconds since the Unix epoch.
    """

    id: str
    request_id: str
    change_type: str
    previous_value: str | None
    new_value: str
    changed_by_id: str
    changed_by_type: str
    correlation_id: str | None
    created_at: int
    outcome: str

    def encode(self) -> bytes:
        """The row as the spool keeps it: a JSON array in the order of the attributes."""
        return orjson.dumps(
            (
                self.id,
                self.request_id,
                self.change_type,
                self.previous_value,
                self.new_value,
                self.changed_by_id,
                self.changed_by_type,
                self.correlation_id,
                self.created_at,
                self.outcome,
            )
        )

    @classmethod
    def decode(cls, payload: bytes) -> AuditRow:
        """The row that :meth:`encode` kept."""
        return cls(*orjson.loads(payload))


@dataclass(slots=True, frozen=True)
class Rejection:
    """Why a change that happened has no row, with what was known of it.

    Attributes:
        reason: One word of a bounded set, the label of ``audit_rejected_total``.
        field: The column that could not be filled, or nothing.
        message: For people.
        route: The route's name; nothing if it is not known any more.
        row: What could be filled.
    """

    reason: str
    field: str
    message: str
    route: str
    row: AuditRow

    def encode(self) -> bytes:
        """The rejection as the spool keeps it: a JSON object."""
        return orjson.dumps(asdict(self))

    @staticmethod
    def decode(payload: bytes) -> dict[str, Any]:
        """The object that :meth:`encode` kept, to be shown."""
        return dict(orjson.loads(payload))
