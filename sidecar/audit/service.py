"""Puts the audit trail together; imported only where a route is audited, for it brings asyncpg."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.audit.delivery import Delivery
from sidecar.audit.postgres import FAILURES, PostgresWriter
from sidecar.audit.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.audit.delivery import RowWriter
    from sidecar.log import Log
    from sidecar.spool.spool import Spool


_FIRST_CHECK: Final = 2.0
"""Seconds that a start waits for the database; a silent one is no reason not to serve."""


class NoDatabaseError(Exception):
    """Routes are audited, and no database is configured."""


class NoDatabase:
    """Stands for a database that nobody has configured: every row waits."""

    async def check(self) -> None:
        """Say what is missing.

        Raises:
            NoDatabaseError: Always.
        """
        raise NoDatabaseError("no database is configured: set `database` or DATABASE_URL")

    async def write(self, _rows: Sequence[bytes]) -> list[tuple[int, str]]:
        """Write nothing; raises as :meth:`check` does."""
        await self.check()
        return []

    async def close(self) -> None:
        """Do nothing: there is no connection."""


async def start_audit(
    spool: Spool, database: str | None, *, log: Log, rejected: Callable[[str], None]
) -> Recorder:
    """A recorder at work. A database that cannot be reached now only makes rows wait.

    Args:
        spool: An open spool; it is closed by whoever opened it, after :meth:`Recorder.close`.
        database: ``postgresql://…``, or ``None`` if none is configured.
        log: Told of outages and rejections.
        rejected: Called with the reason of each change that has no row.

    Raises:
        AuditTableError: The database answers, and rows could never be written as it is.
    """
    writer: RowWriter = NoDatabase() if database is None else PostgresWriter(database)
    try:
        async with asyncio.timeout(_FIRST_CHECK):
            await writer.check()
    except (*FAILURES, NoDatabaseError) as error:
        log.warning(
            "audit_database_down", error=f"{type(error).__name__}: {error}", effect="rows wait in the spool"
        )
    delivery = Delivery(spool, writer, log=log, rejected=rejected)
    recorder = Recorder(spool, delivery, log=log, rejected=rejected)
    recorder.start()
    return recorder
