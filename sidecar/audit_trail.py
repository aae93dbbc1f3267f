"""The audit trail of a running sidecar: opened when a route is audited, closed when the process stops.

A sidecar without audited routes loads neither SQLite nor asyncpg, unless an earlier one has left rows behind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.attempts import Attempts
from sidecar.tasks import end

if TYPE_CHECKING:
    from sidecar.audit.recorder import Recorder
    from sidecar.internal import InternalCalls
    from sidecar.log import Log
    from sidecar.metrics.names import Metrics
    from sidecar.pipeline import Pipeline
    from sidecar.proxy import Proxy
    from sidecar.spool.lazy import LazySpool


class AuditTrailUnusable(Exception):  # noqa: N818 - says what is the case
    """Changes could never be recorded as things are; the message says what to do."""


class AuditTrail:
    """Records what goes through audited routes.

    Args:
        database: ``postgresql://…``, or ``None`` if none is configured: rows wait in the spool.
        spool: Where rows wait.
        proxy: Answers requests.
        calls: Reads what a request is about to change.
        metrics: Where figures go.
        log: Told of outages and rejections.
    """

    def __init__(
        self,
        database: str | None,
        *,
        spool: LazySpool,
        proxy: Proxy,
        calls: InternalCalls,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._database = database
        self._spool = spool
        self._proxy = proxy
        self._calls = calls
        self._attempts = Attempts(metrics)
        self._metrics = metrics
        self._log = log
        self._recorder: Recorder | None = None
        self._resuming: asyncio.Task[None] | None = None
        metrics.audit_lag_seconds.value_from(lambda: self._recorder.lag() if self._recorder else 0.0)
        metrics.audit_spool_depth.value_from(lambda: self._recorder.depth() if self._recorder else 0)

    def __repr__(self) -> str:
        return f"<AuditTrail {'at work' if self._recorder else 'idle'}>"

    async def start(self, pipeline: Pipeline) -> None:
        """Record what goes through ``pipeline``, and write what an earlier process has left in the spool.

        Raises:
            AuditTrailUnusable: Routes are audited, and their changes could never be recorded.
        """
        await self.follow(pipeline)
        if self._recorder is None and self._database is not None and self._spool.exists:
            # No route is audited any more. Whether rows are left is no reason to hold up the start.
            self._resuming = asyncio.create_task(self._resume(), name="resume audit")

    async def follow(self, pipeline: Pipeline) -> None:
        """Record what goes through ``pipeline``, which is about to come into force.

        Raises:
            AuditTrailUnusable: Routes are audited, and their changes could never be recorded.
        """
        plans = [plan for plan in pipeline.plans if plan.route.audit is not None]
        if not plans:
            return
        from sidecar.audit.hook import AuditPlan  # noqa: PLC0415 - loaded only where a route is audited
        from sidecar.audited import AuditedRoute  # noqa: PLC0415 - the same

        recorder = await self._open()
        for plan in plans:
            assert plan.route.audit is not None
            audit = AuditPlan(plan.route.audit, route=plan.name, recorder=recorder)
            plan.audit = AuditedRoute(
                audit, proxy=self._proxy, attempts=self._attempts, look=self._calls.look
            )
            plan.keeps_body |= audit.reads_request

    async def close(self, patience: float) -> None:
        """Store what exchanges have left, and spend up to ``patience`` seconds on writing it."""
        if self._resuming is not None:
            await end([self._resuming])
        if self._recorder is not None:
            await self._recorder.close(patience)

    async def _open(self) -> Recorder:
        if self._recorder is None:
            from sidecar.audit.postgres import AuditTableError  # noqa: PLC0415 - brings asyncpg
            from sidecar.audit.service import start_audit  # noqa: PLC0415 - the same
            from sidecar.spool import SpoolError  # noqa: PLC0415 - the same

            try:
                self._recorder = await start_audit(
                    await self._spool.open(), self._database, log=self._log, rejected=self._count_rejected
                )
            except (AuditTableError, SpoolError) as error:
                raise AuditTrailUnusable(f"the audit trail cannot be kept: {error}") from error
        return self._recorder

    async def _resume(self) -> None:
        from sidecar.audit.record import INTENTS, ROWS  # noqa: PLC0415 - loaded when it is needed
        from sidecar.spool import SpoolError  # noqa: PLC0415 - the same

        try:
            spool = await self._spool.open()
            if (await spool.stats(ROWS)).depth or (await spool.stats(INTENTS)).depth:
                await self._open()
        except (SpoolError, AuditTrailUnusable) as error:
            self._log.warning("audit_rows_left_in_spool", error=str(error))

    def _count_rejected(self, reason: str) -> None:
        self._metrics.audit_rejected.labels(reason=reason).value += 1
