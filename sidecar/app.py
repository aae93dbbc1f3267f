"""The composition root: builds the sidecar from its settings, runs it, reloads it, drains it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from sidecar.admin.server import AdminServer, admin_application, scrape_application
from sidecar.events.service import EventService
from sidecar.health_checks import HealthChecks
from sidecar.idempotency.engine import Engine
from sidecar.internal import InternalCalls
from sidecar.listeners import Listeners
from sidecar.log import Log, capture_stdlib
from sidecar.metrics.names import Metrics
from sidecar.metrics.process import define_process_metrics
from sidecar.metrics.registry import Registry
from sidecar.net.deadlines import Deadlines
from sidecar.otlp import traces_target
from sidecar.pipeline import Pipeline
from sidecar.proxy import Proxy
from sidecar.reload import Reloader
from sidecar.settings.restart import check_reloadable
from sidecar.spans import Spans
from sidecar.spool.lazy import LazySpool
from sidecar.storewatch import StoreWatch, requires_store
from sidecar.tracing.sampling import sampler_for
from sidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.breaker.states import Transition
    from sidecar.idempotency.store import IdempotencyStore
    from sidecar.metrics.registry import Snapshot
    from sidecar.settings.client import Recompiler
    from sidecar.settings.model import Settings
    from sidecar.tracing.sampling import Sampler
    from sidecar.tracing.tracer import Tracer

_SWEEP_SECONDS = 0.25
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
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        await app.until_stopped()
        await app.stop()
    except OSError as error:
        log.error("start failed", message=str(error))  # noqa: TRY400 - our own log; the message is enough
        print(f"sidecar: {error}", file=sys.stderr)  # noqa: T201 - the log goes to standard output
        return 1
    finally:
        log.close()
    return 0


class App:
    """One sidecar.

    Attributes:
        settings: The configuration in force.
        draining: Set when it has been told to stop.
        started: Whether it is open for traffic.
        started_at: When it began, in seconds since the Unix epoch.
        calls: Sends requests of the sidecar's own.
        spool: Where events and audit rows wait.
        events: Events and dead letters.
    """

    def __init__(self, settings: Settings, recompile: Recompiler, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.draining = False
        self.started = False
        self.started_at = time.time()
        self._linger = 0.0
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.registry = Registry(service=settings.service)
        self.metrics = Metrics(self.registry, version=VERSION)
        define_process_metrics(self.registry)
        self.deadlines = Deadlines(self._loop)
        self.engine = Engine(
            _open_store(settings),
            observe=lambda op, seconds: self.metrics.idempotency_store_seconds.labels(op=op).observe(seconds),
        )
        self._health_checks = HealthChecks(log)
        self._store_watch = StoreWatch(self.engine.store, patience=settings.store_timeout)
        self.tracer = _start_tracer(settings, log)
        self.pipeline = self._build(settings)
        sampler = self._sampler = self._sampler_for(settings)
        self.proxy = Proxy(
            self.pipeline,
            engine=self.engine,
            metrics=self.metrics,
            log=log,
            deadlines=self.deadlines,
            sampler=sampler,
            tracer=self.tracer,
        )
        spans = Spans(sampler, self.tracer)
        self.calls = InternalCalls(self.proxy, metrics=self.metrics, deadlines=self.deadlines, spans=spans)
        self.spool = LazySpool(Path(settings.spool.dir))
        self.events = EventService(
            settings,
            calls=self.calls,
            spans=spans,
            metrics=self.metrics,
            spool=self.spool,
            ask=getattr(self.engine.store, "ask", None),  # Redis answers; memory is looked into
        )
        self._listeners = Listeners(self.proxy, self.deadlines)
        self._admin: list[AdminServer] = []
        self._reloader = Reloader(recompile, self.apply, log, self.metrics)
        self._exporting: Callable[[], Awaitable[None]] | None = None
        self._expose()

    def _sampler_for(self, settings: Settings) -> Sampler:
        return sampler_for(settings.tracing.sample if self.tracer is not None else 0.0, os.environ)

    def _build(self, settings: Settings, previous: Pipeline | None = None) -> Pipeline:
        return Pipeline(
            settings,
            metrics=self.metrics,
            deadlines=self.deadlines,
            on_transition=self._on_transition,
            previous=previous,
        )

    def _expose(self) -> None:
        """Let scrapes read what lives elsewhere."""
        metrics, log = self.metrics, self.log
        metrics.log_lines_dropped.value_from(lambda: log.dropped)
        tracer = self.tracer
        if tracer is not None:
            metrics.spans_dropped.value_from(lambda: tracer.exporter.dropped)
            metrics.spans_exported.value_from(lambda: tracer.exporter.exported)
        metrics.breaker_state.collect_from(self._breaker_states)
        metrics.bulkhead_in_use.collect_from(
            lambda: [
                ((upstream.name,), upstream.permits.in_use) for upstream in self.pipeline.upstreams.values()
            ]
        )

    def _breaker_states(self) -> list[tuple[tuple[str, ...], float]]:
        now = self._loop.time()
        return [
            ((self.settings.service, upstream.name, host.label), host.breaker.phase(now))
            for upstream in self.pipeline.upstreams.values()
            for host in upstream.hosts
        ]

    def _on_transition(self, transition: Transition) -> None:
        upstream, _, host = transition.breaker.partition("/")
        self.metrics.breaker_transitions.labels(
            upstream=upstream, host=host, to=transition.after.value
        ).value += 1
        self.log.warning(
            "circuit breaker",
            upstream=upstream,
            host=host,
            before=transition.before.value,
            after=transition.after.value,
            cause=str(transition.cause.value),
            note=transition.note,
        )

    # --- the life of the process ------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything; traffic comes last.

        Raises:
            OSError: An address is taken, or a certificate cannot be read.
        """
        settings, log = self.settings, self.log
        for name in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(name, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reloader.request)
        self.engine.start()
        await self._start_admin()
        await self._listeners.open(settings)
        self.proxy.dead_letters = self.events.hook()
        await self.events.start()
        self._reloader.start()
        await self._health_checks.follow(self.pipeline)
        self._tasks = [
            asyncio.create_task(self._sweep(), name="breakers"),
            asyncio.create_task(self._store_watch.advise(log), name="store advice"),
        ]
        self.started = True
        log.info(
            "started",
            version=VERSION,
            listeners=self._listeners.addresses,
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
        settings, log = self.settings, self.log
        self.draining = True
        log.info("draining", in_flight=self.proxy.active, timeout=settings.drain_timeout)
        self._listeners.close()
        delivering = asyncio.create_task(self.events.stop_delivering(settings.drain_timeout))
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_timeout):
                while self.proxy.active or self._listeners.busy:  # noqa: ASYNC110 - two counts, once in a life
                    await asyncio.sleep(0.01)
        await delivering
        await asyncio.sleep(self._linger)
        if self.proxy.active:
            log.warning("drain timeout", in_flight=self.proxy.active)
        self._listeners.kill()
        await self._reloader.close()
        await self._health_checks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._admin:
            await server.close()
        await self.events.close()
        await self.spool.close()
        await self.engine.aclose()
        self.pipeline.close()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close, 2.0)
        self.deadlines.close()
        log.info("stopped")

    async def _sweep(self) -> None:
        """Half-open begins when its time is up, with or without traffic; it is this that says so."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self._loop.time()
            for upstream in self.pipeline.upstreams.values():
                for host in upstream.hosts:
                    host.breaker.phase(now)

    # --- what the admin port asks -----------------------------------------------------------------------

    async def not_ready(self) -> str:
        """Why no traffic should come here, or an empty string."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if requires_store(plan.policy for plan in self.pipeline.plans) and await self.store_problem():
            return "the idempotency store is unavailable"
        return ""

    async def store_problem(self) -> str:
        """Why the store cannot be used, or an empty string."""
        return await self._store_watch.problem()

    @property
    def in_flight(self) -> int:
        """Requests being answered."""
        return self.proxy.active

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

    def set_log_level(self, level: str) -> None:
        """Write log lines from ``level`` on, until the configuration names another one."""
        self.log.set_level(level)

    async def snapshot(self) -> Snapshot:
        """All figures."""
        await self.events.refresh()
        return self.registry.snapshot()

    # --- reload -----------------------------------------------------------------------------------------

    async def apply(self, settings: Settings) -> None:
        """Put another configuration in force; nothing is cut, and an error leaves the old one.

        Raises:
            OSError: A new listener's address is taken, or a certificate cannot be read.
            RestartNeeded: A setting has changed that cannot change while the process runs.
        """
        can_trace = self.tracer is not None or traces_target(os.environ) is None
        check_reloadable(self.settings, settings, can_trace=can_trace)
        old = self.pipeline
        new = self._build(settings, old)
        await self._listeners.update(settings)
        new.take_over()
        self.pipeline = new
        self.proxy.pipeline = new
        if self.tracer is not None:
            self._sampler.become(self._sampler_for(settings))
        if settings.log.level != self.settings.log.level:  # else an operator may have chosen another one
            self.log.set_level(settings.log.level)
        self.settings = settings
        await self.events.apply(settings)
        self.proxy.dead_letters = self.events.hook()
        await self._health_checks.follow(new)
        old.close()


def _open_store(settings: Settings) -> IdempotencyStore:
    if settings.store == "memory://":
        from sidecar.idempotency.memory import MemoryIdempotencyStore  # noqa: PLC0415 - only the store that is used

        return MemoryIdempotencyStore()
    from sidecar.idempotency.redis import RedisIdempotencyStore  # noqa: PLC0415 - hiredis is loaded only when needed

    return RedisIdempotencyStore(
        settings.store, key_prefix=f"idempotency:{settings.service}:", timeout=settings.store_timeout
    )


def _start_tracer(settings: Settings, log: Log) -> Tracer | None:
    target = traces_target(os.environ)
    if target is None or settings.tracing.sample <= 0:
        return None
    from sidecar.tracing.tracer import start_tracer  # noqa: PLC0415 - protobuf is loaded only when needed

    return start_tracer(target, service=settings.service, version=VERSION, environ=os.environ, log=log)
