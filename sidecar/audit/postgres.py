"""Rows into PostgreSQL: one connection, one statement a batch, each row at most once.

The database numbers and hashes the rows itself (``sql/request-changes-audit.sql``), so any number of
writers share one chain. A batch that is sent again after a lost answer adds nothing: its ids are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT: Final = "sql/request-changes-audit.sql"
_ROLE: Final = "sidecar_audit_writer"
_COLUMNS: Final = frozenset(
    {
        *("id", "request_id", "change_type", "previous_value", "new_value", "changed_by_id"),
        *("changed_by_type", "correlation_id", "created_at", "outcome", "seq", "prev_hash", "row_hash"),
    }
)
_GUARDS: Final = frozenset(
    {
        "request_changes_link",
        "request_changes_record_head",
        "request_changes_refuse_change",
        "request_changes_refuse_truncate",
    }
)

# Rows arrive as the spool keeps them, in one JSON array: taking that apart costs the database less than it
# costs the event loop to encode each value.
_INSERT: Final = """
INSERT INTO request_changes (id, request_id, change_type, previous_value, new_value,
                             changed_by_id, changed_by_type, correlation_id, created_at, outcome)
SELECT (v->>0)::uuid, (v->>1)::uuid, v->>2, (v->>3)::jsonb, (v->>4)::jsonb,
       (v->>5)::uuid, v->>6, v->>7, 'epoch'::timestamptz + (v->>8)::bigint * interval '1 microsecond', v->>9
FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS r (v, position)
ORDER BY position
ON CONFLICT (id) DO NOTHING
"""

# Readable by every role, whatever it may do with the table.
_INSPECT: Final = """
SELECT current_user AS role,
       t.oid IS NOT NULL AS found,
       ARRAY(SELECT attname::text FROM pg_attribute
             WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped) AS columns,
       ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = t.oid AND tgenabled <> 'D') AS triggers,
       has_table_privilege(t.oid, 'INSERT') AS may_insert,
       has_column_privilege(t.oid, 'id', 'SELECT') AS may_compare
FROM (SELECT to_regclass('request_changes')::oid AS oid) AS t
"""

# SQLSTATEs that blame the row: data, program limits (nesting), constraints and triggers that a user has
# added. Not the missing or repeated seq of a broken chain, nor anything else that the next row would meet
# as well.
_ROW_FAULTS: Final = ("22", "54", "23503", "23514", "23P01", "P0001")


FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What reaching the database can raise; time running out is an ``OSError`` too."""


class AuditTableError(Exception):
    """The table is missing, older, unguarded, or out of this role's reach; the message says what to do."""


class PostgresWriter:
    """Writes rows through one connection, made when it is needed and again after a failure.

    Args:
        url: ``postgresql://…`` as libpq knows it.
        timeout: Seconds that connecting, or writing a batch, may take.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self._url = url
        self._timeout = timeout
        self._connection: asyncpg.Connection | None = None

    async def check(self) -> None:
        """Connect, and see whether rows can be written.

        Raises:
            AuditTableError: They cannot, for a reason that waiting does not mend.
            FAILURES: The database cannot be reached or refuses us.
        """
        await self._connected()

    async def write(self, rows: Sequence[bytes]) -> list[tuple[int, str]]:
        """Add the rows that are not there yet, in order.

        Args:
            rows: As :meth:`sidecar.audit.record.AuditRow.encode` makes them.

        Returns:
            Position and message for each row that the database refuses; all the others are written.

        Raises:
            AuditTableError: See :meth:`check`.
            FAILURES: Some of them, the first ones, may be written.
        """
        refused: list[tuple[int, str]] = []
        await self._write(rows, 0, refused)
        return refused

    async def close(self) -> None:
        """End the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except FAILURES:
                connection.terminate()

    async def _write(self, rows: Sequence[bytes], offset: int, refused: list[tuple[int, str]]) -> None:
        """Write a batch; one that is refused is halved until the row at fault stands alone."""
        try:
            await self._insert(rows)
        except asyncpg.PostgresError as error:
            if not (error.sqlstate or "").startswith(_ROW_FAULTS):
                raise
            if len(rows) == 1:
                refused.append((offset, str(error)))
                return
            middle = len(rows) // 2
            await self._write(rows[:middle], offset, refused)
            await self._write(rows[middle:], offset + middle, refused)

    async def _insert(self, rows: Sequence[bytes]) -> None:
        connection = await self._connected()
        try:
            await connection.execute(_INSERT, f"[{b','.join(rows).decode()}]", timeout=self._timeout)
        except asyncpg.PostgresError:
            raise  # the server has answered: the connection is in order, or says that it is closed
        except BaseException:
            self._drop()
            raise

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            # Without named statements it works through PgBouncer's transaction pooling as well.
            connection = await asyncpg.connect(self._url, timeout=self._timeout, statement_cache_size=0)
            try:
                await _require_table(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def _require_table(connection: asyncpg.Connection) -> None:
    """Raise :class:`AuditTableError` unless the table is as the script makes it and we may add to it."""
    found = await connection.fetchrow(_INSPECT)
    run = f'run psql "$DATABASE_URL" -f {_SCRIPT} as its owner'
    if not found["found"]:
        raise AuditTableError(f"the table request_changes is missing in the search path: {run}")
    if missing := _COLUMNS - set(found["columns"]):
        raise AuditTableError(
            f"the table request_changes is older and lacks {', '.join(sorted(missing))}: {run}"
        )
    if missing := _GUARDS - set(found["triggers"]):
        raise AuditTableError(f"request_changes lacks its triggers {', '.join(sorted(missing))}: {run}")
    if not (found["may_insert"] and found["may_compare"]):
        role = found["role"]
        raise AuditTableError(f'the role {role} may not add to request_changes: GRANT {_ROLE} TO "{role}"')
