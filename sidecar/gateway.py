"""What forwards requests, whoever hands them in: the pipeline in force, the proxy, stores and tracer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.audit_trail import AuditTrail
from sidecar.events.service import EventService
from sidecar.idempotency.engine import Engine
from sidecar.internal import InternalCalls
from sidecar.load import Connections, Load
from sidecar.metrics.cells import observing
from sidecar.metrics.names import Metrics
from sidecar.metrics.outcomes import STORE_OPERATIONS
from sidecar.metrics.process import define_process_metrics
from sidecar.metrics.registry import Registry
from sidecar.net.deadlines import Deadlines
from sidecar.pipeline import Pipeline
from sidecar.proxy import Proxy, new_name
from sidecar.scoreboard.row import ScoreboardFull
from sidecar.settings.restart import RestartNeeded, check_reloadable
from sidecar.spans import Spans
from sidecar.spool.lazy import LazySpool
from sidecar.telemetry import Tracing
from sidecar.version import VERSION

if TYPE_CHECKING:
    from sidecar.breaker.states import Transition
    from sidecar.idempotency.store import IdempotencyStore
    from sidecar.log import Log
    from sidecar.scoreboard.shared import Scoreboard
    from sidecar.settings.model import Settings
    from sidecar.upstreams import Upstream
    from sidecar.workers.commons import Commons

_SWEEP_SECONDS: Final = 0.25
_AUDIT_SECONDS: Final = 2.0
"""Seconds that rows on their way to PostgreSQL have when the process stops; the rest stays in the spool."""


class Front(Protocol):
    """What faces the clients."""

    @property
    def busy(self) -> int:
        """How much of it is still at work: 0 when nothing is left to wait for."""
        ...

    async def update(self, settings: Settings) -> None:
        """Face the clients as ``settings`` say.

        Raises:
            OSError: An address is taken or not ours, or a certificate cannot be read; nothing has changed.
        """
        ...

    def close(self) -> None:
        """Accept nothing more, and finish what is under way."""
        ...

    async def kill(self) -> None:
        """Break off what is still under way."""
        ...


class Gateway:
    """What a process needs to forward requests; every process of a sidecar has one.

    Args:
        settings: The configuration to begin with.
        log: Where it tells what happens.
        commons: What it shares with the sidecar's other processes, if there are any.

    Attributes:
        settings: The configuration in force.
        registry: All figures.
        metrics: The same, by name.
        engine: Idempotency.
        pipeline: The upstreams and routes in force.
        proxy: Answers requests.
        calls: Sends requests of the sidecar's own.
        spool: Where events and audit rows wait.
        events: Events and dead letters.
        audit: The audit trail.
    """

    def __init__(self, settings: Settings, log: Log, commons: Commons | None = None) -> None:
        self.settings = settings
        self._commons = commons
        self.log = log
        self._loop = asyncio.get_running_loop()
        self.registry = Registry(service=settings.service)
        self.metrics = Metrics(self.registry, version=VERSION)
        define_process_metrics(self.registry)
        self.deadlines = Deadlines(self._loop)
        waits = self.metrics.idempotency_store_seconds.children("op", STORE_OPERATIONS)
        self.engine = Engine(
            _open_store(settings),
            sent=commons.sent if commons is not None else None,
            observe=observing(waits),
        )
        tracing = self._tracing = Tracing(settings, log)
        self.pipeline = self._build(settings)
        self.proxy = Proxy(
            self.pipeline,
            engine=self.engine,
            metrics=self.metrics,
            log=log,
            deadlines=self.deadlines,
            sampler=tracing.sampler,
            tracer=tracing.tracer,
            name=commons.name if commons is not None else new_name(),
        )
        spans = Spans(tracing.sampler, tracing.tracer)
        self.calls = InternalCalls(self.proxy, metrics=self.metrics, deadlines=self.deadlines, spans=spans)
        self.spool = LazySpool(Path(settings.spool.dir), max_queue_bytes=settings.spool.max_bytes)
        self.events = EventService(
            settings,
            calls=self.calls,
            spans=spans,
            metrics=self.metrics,
            spool=self.spool,
            ask=getattr(self.engine.store, "ask", None),  # Redis answers; memory is looked into
        )
        self.audit = AuditTrail(
            settings.database,
            spool=self.spool,
            proxy=self.proxy,
            calls=self.calls,
            metrics=self.metrics,
            log=log,
        )
        self._sweeping: asyncio.Task[None] | None = None
        self._out_of_force: list[Upstream] = []
        self._expose()

    def _build(self, settings: Settings, previous: Pipeline | None = None) -> Pipeline:
        return Pipeline(
            settings,
            metrics=self.metrics,
            deadlines=self.deadlines,
            on_transition=self._on_transition,
            previous=previous,
            rows=self._commons.board if self._commons is not None else None,
        )

    # --- its life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Be ready to forward what a front hands in.

        Raises:
            AuditTrailUnusable: Routes are audited, and their changes could never be recorded.
        """
        await self.audit.start(self.pipeline)
        self.engine.start()
        self.proxy.dead_letters = self.events.hook()
        self._sweeping = asyncio.create_task(self._sweep(), name="breakers")
        if self._commons is not None:
            self._loop.add_reader(self._commons.board.doorbell, self._rung, self._commons.board)

    def _rung(self, board: Scoreboard) -> None:
        """Another process has left permits that it may be our turn to hand out."""
        board.answer()
        for upstream in self.pipeline.upstreams.values():
            upstream.permits.hand_out()

    async def apply(self, settings: Settings, front: Front) -> None:
        """Put another configuration in force; nothing is cut, and an error leaves the old one.

        Raises:
            OSError: A new listener's address is taken, or a certificate cannot be read.
            RestartNeeded: A setting has changed that cannot change while the process runs.
            AuditTrailUnusable: Routes are audited now, and their changes could never be recorded.
        """
        check_reloadable(self.settings, settings, can_trace=self._tracing.can_trace)
        old = self.pipeline
        self._leave_rows()
        try:
            new = self._build(settings, old)
        except ScoreboardFull as full:
            raise RestartNeeded([f"upstreams: {full}: restart, and there is room for more"]) from full
        try:
            await self.audit.follow(new)
            await front.update(settings)
        except BaseException:
            self._out_of_force += new.upstreams.values()
            raise
        new.take_over()
        self.pipeline = new
        self.proxy.pipeline = new
        self._tracing.follow(settings)
        if settings.log.level != self.settings.log.level:  # else an operator may have chosen another one
            self.log.set_level(settings.log.level)
        self.settings = settings
        await self.events.apply(settings)
        self.proxy.dead_letters = self.events.hook()
        self._out_of_force += old.upstreams.values()
        old.close()

    def _leave_rows(self) -> None:
        """Make room on the scoreboard: give up the rows of upstreams that nothing uses any more."""
        left, self._out_of_force = self._out_of_force, []
        if self._commons is None or not left:
            return
        used: set[str] = set().union(*(it.row_names for it in self.pipeline.upstreams.values()))
        for upstream in left:
            if upstream.is_idle:
                for name in upstream.row_names - used:
                    self._commons.board.leave(name)
            elif not upstream.row_names <= used:
                self._out_of_force.append(upstream)

    async def drain(self, front: Front) -> None:
        """Refuse new work, and finish what is under way within ``drain_timeout``."""
        patience = self.settings.drain_timeout
        self.log.info("draining", in_flight=self.proxy.active, timeout=patience)
        front.close()
        delivering = asyncio.create_task(self.events.stop_delivering(patience))
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.proxy.active or front.busy:  # noqa: ASYNC110 - two counts, once in a life
                    await asyncio.sleep(0.01)
        await delivering
        if self.proxy.active:
            self.log.warning("drain timeout", in_flight=self.proxy.active)

    async def close(self) -> None:
        """Flush stores and exporters."""
        if self._commons is not None:
            self._loop.remove_reader(self._commons.board.doorbell)
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self.events.close()
        await self.audit.close(_AUDIT_SECONDS)
        await self.spool.close()
        await self.engine.aclose()
        self.pipeline.close()
        await self._tracing.close()
        self.deadlines.close()

    async def _sweep(self) -> None:
        """Half-open begins when its time is up, with or without traffic; it is this that says so."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._leave_rows()
            now = self._loop.time()
            for upstream in self.pipeline.upstreams.values():
                for host in upstream.hosts:
                    host.breaker.phase(now)

    def load(self) -> Load:
        """What it has in hand."""
        return Load(
            in_flight=self.proxy.active,
            executions=self.engine.running,
            unwritten=self.engine.unwritten,
            connections={
                (upstream.name, host.label): Connections(host.pool.size, host.pool.idle)
                for upstream in self.pipeline.upstreams.values()
                for host in upstream.hosts
            },
        )

    # --- what it tells ----------------------------------------------------------------------------------

    def _expose(self) -> None:
        """Let scrapes read what lives elsewhere."""
        metrics, log = self.metrics, self.log
        metrics.log_lines_dropped.value_from(lambda: log.dropped)
        tracer = self._tracing.tracer
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
        counts = transition.counts
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
            calls=counts.calls,
            failures=counts.failures,
            slow_calls=counts.slow_calls,
            failures_in_a_row=counts.failures_in_a_row,
            note=transition.note,
        )


def _open_store(settings: Settings) -> IdempotencyStore:
    if settings.store == "memory://":
        from sidecar.idempotency.memory import MemoryIdempotencyStore  # noqa: PLC0415 - only the store in use

        return MemoryIdempotencyStore()
    from sidecar.idempotency.redis import RedisIdempotencyStore  # noqa: PLC0415 - brings hiredis with it

    return RedisIdempotencyStore(
        settings.store, key_prefix=f"idempotency:{settings.service}:", timeout=settings.store_timeout
    )
