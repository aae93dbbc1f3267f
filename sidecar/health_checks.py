"""Looks after the hosts of upstreams that have ``health``, each in a task of its own."""

from __future__ import annotations

import asyncio
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from sidecar.net.health_check import check

if TYPE_CHECKING:
    from sidecar.log import Log
    from sidecar.pipeline import Pipeline
    from sidecar.settings import model
    from sidecar.upstreams import Upstream, UpstreamHost

_JITTER: Final = 0.1
"""By this share a pause is longer or shorter, so that many sidecars do not check in step."""

_RANDOM: Final = SystemRandom()


class HealthChecks:
    """Checks hosts and tells the log when one fails or is well again."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []

    async def follow(self, pipeline: Pipeline) -> None:
        """Check the hosts of ``pipeline`` from now on, and no others."""
        await self.close()
        self._tasks = [
            asyncio.create_task(self._look_after(upstream, host, health), name=f"health of {host.label}")
            for upstream in pipeline.upstreams.values()
            if (health := upstream.settings.health) is not None
            for host in upstream.hosts
        ]

    async def close(self) -> None:
        """Check nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _look_after(self, upstream: Upstream, host: UpstreamHost, settings: model.Health) -> None:
        while True:
            problem = await check(host.pool, settings.path, host.authority, settings.timeout)
            if host.health.record(passed=not problem):
                self._log.warning(
                    "health check",
                    upstream=upstream.name,
                    host=host.label,
                    healthy=host.health.healthy,
                    problem=problem or None,
                )
            await asyncio.sleep(settings.interval * _RANDOM.uniform(1 - _JITTER, 1 + _JITTER))
