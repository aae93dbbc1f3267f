"""What the sidecar starts, stops and asks of events and dead letters.

A sidecar that has neither loads nothing of them: the engine is made when it is needed, which is at the start
where there are subscriptions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.events.figures import Figures
from sidecar.tasks import end

if TYPE_CHECKING:
    from sidecar.dlq.hook import DeadLetterHook
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.engine import EventEngine
    from sidecar.events.figures import Ask
    from sidecar.internal import InternalCalls
    from sidecar.metrics.names import Metrics
    from sidecar.settings.model import Settings
    from sidecar.spans import Spans
    from sidecar.spool.lazy import LazySpool

_MEMORY = "memory://"


class EventService:
    """Events and dead letters of one sidecar.

    Args:
        settings: The configuration in force.
        calls: How requests go upstream.
        spans: Takes those of publishing.
        metrics: Where figures go.
        spool: Where events wait while Redis is away.
        ask: Sends one command to Redis, if that is the store.
        clock: Tells the time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        calls: InternalCalls,
        spans: Spans,
        metrics: Metrics,
        spool: LazySpool,
        ask: Ask | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._spans = spans
        self._metrics = metrics
        self._spool = spool
        self._clock = clock
        self._opening = asyncio.Lock()
        self._engine: EventEngine | None = None
        self._hook: DeadLetterHook | None = None
        self._resuming: asyncio.Task[EventEngine] | None = None
        self._figures = Figures(metrics, ask, self._opened, clock)

    def __repr__(self) -> str:
        return f"<EventService {'at work' if self._engine else 'idle'}>"

    async def start(self) -> None:
        """Begin to deliver, if there is anything to deliver."""
        settings = self._settings
        if settings.events.subscriptions:
            await self.engine()
        elif settings.store != _MEMORY and self._spool.exists:
            # Events may wait there; whether any do is no reason to hold up the start.
            self._resuming = asyncio.create_task(self.engine(), name="resume events")

    async def apply(self, settings: Settings) -> None:
        """Put another configuration in force."""
        self._settings = settings
        if self._engine is not None:
            await self._engine.apply(settings)
        elif settings.events.subscriptions:
            await self.engine()

    async def engine(self) -> EventEngine:
        """The engine, made now if it is the first time."""
        async with self._opening:
            if self._engine is None:
                self._engine = await self._make()
            return self._engine

    def hook(self) -> DeadLetterHook | None:
        """What keeps requests as dead letters, if a route of the configuration in force wants that."""
        settings = self._settings
        if not any(route.dead_letter for route in settings.routes):
            return None
        if self._hook is None:
            from sidecar.dlq.hook import DeadLetterHook  # noqa: PLC0415 - only where a route wants it

            self._hook = DeadLetterHook(self._dead_letters, service=settings.service, clock=self._clock)
        self._hook.drop_headers = frozenset(name.lower() for name in settings.dead_letters.drop_headers)
        return self._hook

    async def refresh(self) -> None:
        """Bring the figures up to date that only the store knows; never takes long."""
        await self._figures.refresh(self._settings.dead_letters.max_age)

    async def stop_delivering(self, grace: float) -> None:
        """Deliver nothing more; what is under way has ``grace`` seconds, the rest is left to others."""
        if self._engine is not None:
            await self._engine.stop_delivering(grace)

    async def close(self) -> None:
        """Store what is being published, and close connections."""
        if self._resuming is not None:
            await end([self._resuming])
        if self._engine is not None:
            await self._engine.close()

    async def _dead_letters(self) -> DeadLetterStore:
        return (await self.engine()).dead_letters

    def _opened(self) -> DeadLetterStore | None:
        return None if self._engine is None else self._engine.dead_letters

    async def _make(self) -> EventEngine:
        from sidecar.events.backend import open_backend  # noqa: PLC0415 - loaded when it is needed
        from sidecar.events.engine import EventEngine  # noqa: PLC0415

        settings = self._settings
        backend = await open_backend(
            settings.store, patience=settings.store_timeout, max_age=settings.dead_letters.max_age
        )
        engine = EventEngine(
            settings,
            backend,
            calls=self._calls,
            spans=self._spans,
            metrics=self._metrics,
            spool=self._spool,
            clock=self._clock,
        )
        await engine.start()
        return engine
