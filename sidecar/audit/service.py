"""Puts the audit trail together; imported only where a route is audited, for it brings asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.delivery import Delivery
from sidecar.audit.postgres import FAILURES, AuditTableError, PostgresWriter
from sidecar.audit.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.log import Log
    from sidecar.spool.spool import Spool


async def start_audit(spool: Spool, database: str, *, log: Log, rejected: Callable[[str], None]) -> Recorder:
    """A recorder at work. A database that cannot be reached now only makes rows wait.

    Args:
        spool: An open spool; it is closed by whoever opened it, after :meth:`Recorder.close`.
        database: ``postgresql://…``.
        log: Told of outages and rejections.
        rejected: Called with the reason of each change that has no row.

    Raises:
        AuditTableError: The database answers, and rows could never be written as it is.
    """
    writer = PostgresWriter(database)
    try:
        await writer.check()
    except FAILURES as error:
        log.warning(
            "audit_database_down", error=f"{type(error).__name__}: {error}", effect="rows wait in the spool"
        )
    failures = (*FAILURES, AuditTableError)
    delivery = Delivery(spool, writer, failures=failures, log=log, rejected=rejected)
    recorder = Recorder(spool, delivery, log=log, rejected=rejected)
    recorder.start()
    return recorder
