"""Reads the trail back from PostgreSQL, row by row, in constant memory and as of one moment."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from sidecar.audit.chain import Mark
from sidecar.audit.postgres import FAILURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PREFETCH: Final = 2000

# Each field as the text that the canonical form takes: nothing is lost between the database and the hash.
_ROWS: Final = """
SELECT seq::text, encode(prev_hash, 'hex'), id::text, request_id::text, change_type, previous_value::text,
       new_value::text, changed_by_id::text, changed_by_type, correlation_id,
       (EXTRACT(EPOCH FROM date_trunc('second', created_at))::bigint * 1000000
        + EXTRACT(MICROSECONDS FROM created_at)::bigint % 1000000)::text, outcome, encode(row_hash, 'hex')
FROM request_changes
"""
_CHAIN: Final = """
SELECT base_seq, encode(base_hash, 'hex') AS base_hash, head_seq, encode(head_hash, 'hex') AS head_hash
FROM request_changes_chain
"""


class ReadError(Exception):
    """The trail cannot be read; the message says why and what to do."""


class Trail:
    """The trail as of one moment.

    Attributes:
        base: The row before the first one; seq 0 until old rows have been retired.
        head: The last row, as the database recorded it when that was written.
    """

    __slots__ = ("_connection", "base", "head")

    def __init__(self, connection: asyncpg.Connection, base: Mark, head: Mark) -> None:
        self._connection = connection
        self.base = base
        self.head = head

    def rows(self, where: str = "", *arguments: Any) -> AsyncIterator[asyncpg.Record]:
        """The rows in the order of ``seq``: the twelve hashed fields as texts, then the row's hash."""
        # Not plain seq: that would be the text of the result.
        query = f"{_ROWS} {where} ORDER BY request_changes.seq"
        rows: AsyncIterator[asyncpg.Record] = aiter(
            self._connection.cursor(query, *arguments, prefetch=_PREFETCH)
        )
        return rows


@asynccontextmanager
async def open_trail(url: str) -> AsyncIterator[Trail]:
    """The trail in the database at ``url``; rows that are written meanwhile are not seen.

    Raises:
        ReadError: It cannot be read.
    """
    try:
        connection = await asyncpg.connect(url)
    except (*FAILURES, ValueError) as error:
        raise ReadError(f"the database cannot be reached: {error}") from error
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            chain = await connection.fetchrow(_CHAIN)
            if chain is None:
                raise ReadError(
                    "request_changes_chain is empty: somebody has removed the record of the chain's ends"
                )
            base, head = (
                Mark(chain["base_seq"], chain["base_hash"]),
                Mark(chain["head_seq"], chain["head_hash"]),
            )
            yield Trail(connection, base, head)
    except asyncpg.UndefinedTableError as error:
        raise ReadError(f"{error}: run sql/request-changes-audit.sql") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ReadError(
            f"{error}: GRANT SELECT ON request_changes, request_changes_chain to this role, or use another"
        ) from error
    except FAILURES as error:
        raise ReadError(f"the database failed: {error}") from error
    finally:
        await connection.close(timeout=1)
