"""A sidecar whose routes are audited, and the database that its audit trail is in."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.support.upstream import Reply, answer

if TYPE_CHECKING:
    from tests.support.audit_database import AuditDatabase
    from tests.support.messages import Response
    from tests.support.sidecar import Sidecar
    from tests.support.upstream import Upstream

REQUEST = "0190a0b0-0000-7000-8000-000000000001"
USER = "0190a0b0-0000-7000-8000-000000000002"
NIL = "00000000-0000-0000-0000-000000000000"
CREATED = {"id": REQUEST, "destination": "Paris", "amount": 10.10, "card": {"number": "4711", "type": "V"}}
JSON = "Content-Type: application/json"

_numbers = count()


def audited(name: str, match: str = "", **audit: Any) -> dict[str, Any]:
    """A route for ``/NAME`` that is audited as the documentation's example, with other values where given."""
    example = {
        "request_id": "response:/id",
        "new_value": "response:",
        "changed_by_id": "header:X-User-ID",
        "changed_by_type": "USER",
    }
    return {
        "name": name,
        "match": {"path": match} if match else {"prefix": f"/{name}"},
        "upstream": "app",
        "audit": {**example, **audit},
    }


def created(body: bytes = json.dumps(CREATED).encode(), *fields: str, status: str = "201 Created") -> Reply:
    """Answers with JSON, by default with what an upstream says that has created something."""
    return Reply((answer(body, JSON, *fields, status=status),))


class Audited:
    """A sidecar, the upstream behind it, and the database that its audit trail is in."""

    def __init__(self, sidecar: Sidecar, upstream: Upstream, database: AuditDatabase) -> None:
        self.sidecar = sidecar
        self.upstream = upstream
        self.database = database

    def call(
        self, method: str, target: str, *fields: str, body: Any = None, user: str = USER
    ) -> tuple[str, Response]:
        """Send a request; its correlation id, and the answer."""
        name = f"call-{next(_numbers)}"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        lines = [f"X-Correlation-ID: {name}", *([f"X-User-ID: {user}"] if user else []), *fields]
        with self.sidecar.client() as client:
            return name, client.request(method, target, *lines, body=content)

    def row(self, name: str) -> dict[str, Any]:
        """The one row of a call, which is there soon."""
        return self.database.row(name)

    def rows_before_now(self) -> set[str]:
        """The correlation ids of all rows; those of calls that have been answered are among them."""
        replies, self.upstream.replies = self.upstream.replies, {"/best/last": created()}
        last, _ = self.call("POST", "/best/last")
        self.row(last)
        self.upstream.replies = replies
        return {row["correlation_id"] for row in self.database.rows()}

    def rejected(self, reason: str) -> float:
        """How many changes have no row, for this reason."""
        return self.sidecar.metric("audit_rejected_total", reason=reason)
