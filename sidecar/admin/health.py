"""Liveness, readiness and metrics: what needs no token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from sidecar.admin.answers import json_answer

if TYPE_CHECKING:
    from sidecar.metrics.registry import Snapshot


class Status(Protocol):
    """What health is judged by."""

    async def not_ready(self) -> str:
        """Why no traffic should come here, or an empty string."""
        ...

    async def snapshot(self) -> Snapshot:
        """All figures, those of other workers included."""
        ...


def add_health_routes(app: web.Application, status: Status) -> None:
    """Add ``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        return json_answer({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        reason = await status.not_ready()
        if reason:
            return json_answer({"status": "unavailable", "reason": reason}, status=503)
        return json_answer({"status": "ready"})

    async def metrics(request: web.Request) -> web.Response:
        snapshot = await status.snapshot()
        accept = request.headers.get("Accept", "")
        body, content_type = await asyncio.to_thread(_render, snapshot, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)


def _render(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The text of the figures and its media type; in a thread, because it takes milliseconds."""
    # A start-up does not wait for prometheus_client, and a sidecar that nobody scrapes does without it.
    from sidecar.metrics.exposition import render  # noqa: PLC0415

    return render(snapshot, accept)
