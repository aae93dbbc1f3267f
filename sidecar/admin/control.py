"""What the admin port asks of the sidecar, and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from sidecar.events.service import EventService
    from sidecar.idempotency.engine import Engine
    from sidecar.load import Load
    from sidecar.log import Log
    from sidecar.metrics.registry import Snapshot
    from sidecar.pipeline import Pipeline
    from sidecar.settings.model import Settings


class Control(Protocol):
    """A running sidecar as its operators see it.

    Attributes:
        settings: The configuration in force.
        pipeline: Its upstreams and routes.
        engine: Idempotency.
        events: Events and dead letters.
        log: Where changes are told.
        draining: Whether it has been told to stop.
        started_at: When the process began, in seconds since the Unix epoch.
        reload_failed: What was wrong with the configuration that was refused last; empty since one was
            accepted.
    """

    @property
    def settings(self) -> Settings: ...  # noqa: D102 - the class describes its attributes

    @property
    def pipeline(self) -> Pipeline: ...  # noqa: D102

    @property
    def engine(self) -> Engine: ...  # noqa: D102

    @property
    def events(self) -> EventService: ...  # noqa: D102

    @property
    def log(self) -> Log: ...  # noqa: D102

    @property
    def draining(self) -> bool: ...  # noqa: D102

    @property
    def started_at(self) -> float: ...  # noqa: D102

    @property
    def reload_failed(self) -> list[str]: ...  # noqa: D102

    async def not_ready(self) -> str:
        """Why no traffic should come here, or an empty string."""
        ...

    async def store_problem(self) -> str:
        """Why the store cannot be used, or an empty string; at most a second old."""
        ...

    async def load(self) -> Load:
        """What the sidecar has in hand, in all its workers."""
        ...

    async def snapshot(self) -> Snapshot:
        """All figures, those of other workers included."""
        ...

    async def reload(self) -> list[str]:
        """Read the configuration anew and put it in force; what is wrong with it, or an empty list."""
        ...

    def drain(self) -> None:
        """Refuse new work, finish what is under way, and end the process, as SIGTERM does."""
        ...

    async def set_log_level(self, level: str) -> None:
        """Write log lines from ``level`` on, one of ``sidecar.log.LEVELS``; here, from the next turn on."""
        ...


CONTROL = web.AppKey("CONTROL", Control)
"""Where an application keeps the sidecar that its calls are about."""
