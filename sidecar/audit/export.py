"""Writes the trail out as JSON lines, in the order of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from sidecar.audit.reading import open_trail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NAMES = (
    *("seq", "prev_hash", "id", "request_id", "change_type", "previous_value", "new_value", "changed_by_id"),
    *("changed_by_type", "correlation_id", "created_at", "outcome", "row_hash"),
)
_MICROSECONDS = 1_000_000


@dataclass(slots=True, frozen=True)
class Filter:
    """Which rows to write; all that is given must hold.

    Attributes:
        request_id: Rows about this request, a UUID.
        correlation_id: Rows of this correlation id.
        since: Rows from this moment on.
        until: Rows from before this moment.
    """

    request_id: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its arguments."""
        conditions: list[str] = []
        arguments: list[Any] = []
        for condition, value in (
            ("request_id = ${}::uuid", self.request_id),
            ("correlation_id = ${}", self.correlation_id),
            ("created_at >= ${}", self.since),
            ("created_at < ${}", self.until),
        ):
            if value is not None:
                arguments.append(value)
                conditions.append(condition.format(len(arguments)))
        return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), arguments


async def export(url: str, chosen: Filter) -> AsyncIterator[bytes]:
    """A JSON object with line end for each row; states are as ``jsonb`` has them, times in UTC.

    Raises:
        ReadError: The trail cannot be read.
    """
    where, arguments = chosen.where()
    async with open_trail(url) as trail:
        async for record in trail.rows(where, *arguments):
            yield _line(record)


def _line(record: Any) -> bytes:
    row: dict[str, Any] = dict(zip(_NAMES, record, strict=True))
    row["seq"] = int(row["seq"])
    for state in ("previous_value", "new_value"):
        if row[state] is not None:
            row[state] = orjson.Fragment(row[state])
    seconds, microseconds = divmod(int(row["created_at"]), _MICROSECONDS)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    row["created_at"] = moment.isoformat(timespec="microseconds")
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
