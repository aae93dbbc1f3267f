"""The composition root: builds the sidecar from its settings, runs it, reloads it, drains it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from sidecar.admin.server import AdminServer, admin_application, scrape_application
from sidecar.audit_trail import AuditTrailUnusable
from sidecar.gateway import Gateway
from sidecar.health_checks import HealthChecks
from sidecar.listeners import Listeners
from sidecar.log import Log, capture_stdlib
from sidecar.memory import settle_memory
from sidecar.reload import Reloader
from sidecar.storewatch import StoreWatch, requires_store
from sidecar.telemetry import MetricsPush, TelemetryMisconfigured
from sidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.events.service import EventService
    from sidecar.idempotency.engine import Engine
    from sidecar.load import Load
    from sidecar.metrics.registry import Snapshot
    from sidecar.pipeline import Pipeline
    from sidecar.settings.client import Recompiler
    from sidecar.settings.model import Settings
    from sidecar.workers.commons import Commons
    from sidecar.workers.front import Workers

_SEEN_DRAINING = 1.0
"""Seconds that the admin port goes on after it was asked to drain, so that whoever asked can see it."""


def run_app(settings: Settings, recompile: Recompiler) -> int:
    """Run the sidecar until it is told to stop; returns the process's exit code."""
    log = Log(service=settings.service, level=settings.log.level, style=settings.log.format)
    capture_stdlib(log)
    return uvloop.run(_main(settings, recompile, log))


async def _main(settings: Settings, recompile: Recompiler, log: Log) -> int:
    log.write_from(asyncio.get_running_loop())
    try:
        app = App(settings, recompile, log)
        await app.start()
        settle_memory()
        await app.until_stopped()
        await app.stop()
        if app.failure:
            print(f"sidecar: {app.failure}", file=sys.stderr)  # noqa: T201 - the log goes to standard output
            return 1
    except (OSError, TelemetryMisconfigured, AuditTrailUnusable) as error:
        log.error("start failed", message=str(error))  # noqa: TRY400 - our own log; the message is enough
        print(f"sidecar: {error}", file=sys.stderr)  # noqa: T201 - the log goes to standard output
        return 1
    finally:
        log.close()
    return 0


class App:
    """One sidecar.

    Attributes:
        draining: Set when it has been told to stop.
        started: Whether it is open for traffic.
        started_at: When it began, in seconds since the Unix epoch.
    """

    def __init__(self, settings: Settings, recompile: Recompiler, log: Log) -> None:
        self.log = log
        self.draining = False
        self.started = False
        self.started_at = time.time()
        self._linger = 0.0
        self._stop = asyncio.Event()
        self._workers: Workers | None
        self._workers, commons = _workers_for(settings, log, lost=self._stop.set)
        self._gateway = gateway = Gateway(settings, log, commons)
        self._health_checks = HealthChecks(log)
        self._store_watch = StoreWatch(gateway.engine.store, patience=settings.store_timeout)
        self._front = self._workers or Listeners(gateway.proxy, gateway.deadlines)
        self._admin: list[AdminServer] = []
        self._reloader = Reloader(recompile, self.apply, log, gateway.metrics)
        self._metrics_push = MetricsPush(settings, log)

    # --- the life of the process ------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything; traffic comes last.

        Raises:
            OSError: An address is taken, or a certificate cannot be read.
            AuditTrailUnusable: Routes are audited, and their changes could never be recorded.
        """
        loop, gateway = asyncio.get_running_loop(), self._gateway
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.request)
        await gateway.start()
        await self._start_admin()
        await self._front.update(self.settings)
        await gateway.events.start()
        self._reloader.start()
        await self._health_checks.follow(self.pipeline)
        self._advising = asyncio.create_task(self._store_watch.advise(self.log), name="store advice")
        self._metrics_push.start(self.snapshot)
        self.started = True
        self.log.info(
            "started",
            version=VERSION,
            listeners=self._front.addresses,
            admin=self._admin[0].port,
            pid=os.getpid(),
        )

    async def _start_admin(self) -> None:
        self._admin = [AdminServer(admin_application(self), self.settings.admin.bind)]
        if self.settings.metrics is not None:
            self._admin.append(AdminServer(scrape_application(self), self.settings.metrics.bind))
        for server in self._admin:
            await server.start()

    async def until_stopped(self) -> None:
        """Return when SIGTERM or SIGINT has come."""
        await self._stop.wait()

    async def stop(self) -> None:
        """Refuse new work, finish what is under way within ``drain_timeout``, and flush."""
        self.draining = True
        await self._reloader.close()  # another configuration would open the listeners again
        await self._gateway.drain(self._front)
        await asyncio.sleep(self._linger)
        await self._front.kill()
        await self._health_checks.close()
        self._advising.cancel()
        await asyncio.gather(self._advising, return_exceptions=True)
        for server in self._admin:
            await server.close()
        await self._metrics_push.close(self.snapshot)
        await self._gateway.close()
        self.log.info("stopped")

    @property
    def failure(self) -> str:
        """Why it stopped without being told to, or an empty string."""
        return self._workers.failure if self._workers is not None else ""

    # --- what the admin port asks -----------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._gateway.settings

    @property
    def pipeline(self) -> Pipeline:
        """Its upstreams and routes."""
        return self._gateway.pipeline

    @property
    def engine(self) -> Engine:
        """Idempotency."""
        return self._gateway.engine

    @property
    def events(self) -> EventService:
        """Events and dead letters."""
        return self._gateway.events

    async def not_ready(self) -> str:
        """Why no traffic should come here, or an empty string."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self._workers is not None and (missing := self._workers.not_ready()):
            return missing
        if requires_store(plan.policy for plan in self.pipeline.plans) and await self.store_problem():
            return "the idempotency store is unavailable"
        return ""

    async def store_problem(self) -> str:
        """Why the store cannot be used, or an empty string."""
        return await self._store_watch.problem()

    async def load(self) -> Load:
        """What the sidecar has in hand."""
        own = self._gateway.load()
        return own if self._workers is None else await self._workers.load(own)

    @property
    def reload_failed(self) -> list[str]:
        """What was wrong with the last configuration; empty when it was put in force."""
        return self._reloader.mistakes

    async def reload(self) -> list[str]:
        """Read the configuration anew; what is wrong with it, or an empty list."""
        return await self._reloader.reload()

    def drain(self) -> None:
        """Stop as on SIGTERM, but not before it can be seen that ``/readyz`` fails."""
        self.draining = True
        self._linger = _SEEN_DRAINING
        self._stop.set()

    async def set_log_level(self, level: str) -> None:
        """Write log lines from ``level`` on, until the configuration names another one."""
        # A moment later, so that the line that tells of this change is written under the old level.
        asyncio.get_running_loop().call_soon(self.log.set_level, level)
        if self._workers is not None:
            await self._workers.set_log_level(level)

    async def snapshot(self) -> Snapshot:
        """All figures."""
        await self.events.refresh()
        own = self._gateway.registry.snapshot()
        return own if self._workers is None else await self._workers.snapshot(own)

    async def apply(self, settings: Settings) -> None:
        """Put another configuration in force; nothing is cut, and an error leaves the old one.

        Raises:
            OSError: A new listener's address is taken, or a certificate cannot be read.
            RestartNeeded: A setting has changed that cannot change while the process runs.
            AuditTrailUnusable: Routes are audited now, and their changes could never be recorded.
        """
        await self._gateway.apply(settings, self._front)
        await self._health_checks.follow(self.pipeline)


def _workers_for(
    settings: Settings, log: Log, *, lost: Callable[[], None]
) -> tuple[Workers, Commons] | tuple[None, None]:
    """Those that face the clients in this process's place, if any do, and what they share with it."""
    if settings.workers == 1:
        return None, None
    from sidecar.workers.commons import Commons  # noqa: PLC0415 - only where there are workers
    from sidecar.workers.front import Workers  # noqa: PLC0415

    commons = Commons.make(settings)
    return Workers(settings.workers, commons, log, lost=lost), commons
