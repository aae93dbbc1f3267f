"""What leaves a process for a collector: spans when they have ended, metrics at an interval.

OpenTelemetry and protobuf are loaded only where an endpoint is configured.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from sidecar.otlp import metrics_target, traces_target
from sidecar.tracing.sampling import sampler_for
from sidecar.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sidecar.log import Log
    from sidecar.metrics.otlp import MetricsExporter
    from sidecar.metrics.registry import Snapshot
    from sidecar.settings.model import Settings
    from sidecar.tracing.sampling import Sampler
    from sidecar.tracing.tracer import Tracer

_FLUSH_SECONDS: Final = 1.0
"""What a collector that does not answer may cost at the end."""


class TelemetryMisconfigured(Exception):  # noqa: N818 - what the environment is
    """An ``OTEL_*`` variable has a value that cannot be followed; the message names it."""


class Tracing:
    """Samples, and exports to the endpoint that the standard variables name.

    Starts a thread: to be made after any fork.

    Args:
        settings: The configuration in force.
        log: Told when the collector fails, and when it is back.
        environ: Where the ``OTEL_*`` variables are.

    Attributes:
        sampler: Decides which requests become spans; without an endpoint, what upstreams are told.
        tracer: Takes spans, or ``None`` where there is no endpoint or tracing is off.

    Raises:
        TelemetryMisconfigured: See there.
    """

    def __init__(self, settings: Settings, log: Log, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        try:
            self.sampler: Sampler = sampler_for(settings.tracing.sample, environ)
            self.tracer = None if self.sampler.is_off else _open_tracer(settings, log, environ)
        except ValueError as error:
            raise TelemetryMisconfigured(str(error)) from error

    @property
    def can_trace(self) -> bool:
        """Whether tracing can be turned on now: the exporter starts with the process or not at all."""
        return self.tracer is not None or traces_target(self._environ) is None

    def follow(self, settings: Settings) -> None:
        """Sample as another configuration says."""
        self.sampler.become(sampler_for(settings.tracing.sample, self._environ))

    async def close(self) -> None:
        """Send what waits, for a second at most."""
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close, _FLUSH_SECONDS)


class MetricsPush:
    """Pushes the figures of the whole sidecar, if there is an endpoint for metrics.

    Args:
        settings: The configuration in force.
        log: Told when the collector fails, and when it is back.
        environ: Where the ``OTEL_*`` variables are.

    Raises:
        TelemetryMisconfigured: See there.
    """

    def __init__(self, settings: Settings, log: Log, environ: Mapping[str, str] = os.environ) -> None:
        self._running: asyncio.Task[None] | None = None
        try:
            self._exporter = _open_exporter(settings, log, environ)
        except ValueError as error:
            raise TelemetryMisconfigured(str(error)) from error

    def start(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Push what ``snapshot`` gives from now on."""
        if self._exporter is not None:
            self._running = asyncio.create_task(self._exporter.run(snapshot), name="metrics push")

    async def close(self, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """Push for the last time, for a second at most."""
        if self._running is None or self._exporter is None:
            return
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await asyncio.to_thread(self._exporter.close, await snapshot(), _FLUSH_SECONDS)


def _open_tracer(settings: Settings, log: Log, environ: Mapping[str, str]) -> Tracer | None:
    target = traces_target(environ)
    if target is None:
        return None
    from sidecar.tracing.tracer import start_tracer  # noqa: PLC0415 - protobuf only where it is needed

    return start_tracer(target, service=settings.service, version=VERSION, environ=environ, log=log)


def _open_exporter(settings: Settings, log: Log, environ: Mapping[str, str]) -> MetricsExporter | None:
    target = metrics_target(environ)
    if target is None:
        return None
    from sidecar.metrics.otlp import open_metrics_exporter  # noqa: PLC0415 - the same

    return open_metrics_exporter(target, service=settings.service, version=VERSION, environ=environ, log=log)
