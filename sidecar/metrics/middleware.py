"""Request metrics for ASGI applications that run without the sidecar."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from sidecar.asgi import header_values, route_of
from sidecar.metrics.library import current_metrics
from sidecar.metrics.route import UNMATCHED, RouteMetrics

if TYPE_CHECKING:
    from sidecar.asgi import Application, Message, Receive, Scope, Send
    from sidecar.metrics.names import Metrics

_FAILED: Final = 500


class MetricsMiddleware:
    """Counts and times every request, and serves the figures.

    The ``route`` label is the template of the route that a framework has left in the scope, as Starlette
    does, else ``unmatched``: never the path, which strangers choose.

    Args:
        app: The ASGI application.
        metrics: From :func:`sidecar.metrics.library.init_metrics`, which is the default too.
        path: Where ``GET`` answers with the metrics; ``None`` for nowhere.

    Raises:
        RuntimeError: ``metrics`` is left out and ``init_metrics`` was not called.
    """

    def __init__(
        self, app: Application, *, metrics: Metrics | None = None, path: str | None = "/metrics"
    ) -> None:
        self._app = app
        self._metrics = metrics or current_metrics()
        self._path = path
        self._unmatched = RouteMetrics(self._metrics, UNMATCHED)
        self._routes: dict[str, RouteMetrics] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; WebSockets and the lifespan pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == self._path and scope["method"] == "GET":
            await self._serve(scope, send)
        else:
            await self._measure(scope, receive, send)

    async def _measure(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        self._unmatched.started()
        status = _FAILED  # unless the application gets as far as a response

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = self._route(route_of(scope))  # a framework has not chosen it before
            self._unmatched.moved_to(route)
            milliseconds = (time.perf_counter() - started) * 1000
            route.ended(scope["method"].encode("latin-1"), status, milliseconds)

    def _route(self, template: str) -> RouteMetrics:
        if not template:
            return self._unmatched
        route = self._routes.get(template)
        if route is None:
            route = self._routes[template] = RouteMetrics(self._metrics, template)
        return route

    async def _serve(self, scope: Scope, send: Send) -> None:
        from sidecar.metrics.exposition import render  # noqa: PLC0415 - only where somebody scrapes

        accept = b",".join(header_values(scope, b"accept"))
        snapshot = self._metrics.registry.snapshot()
        body, content_type = await asyncio.to_thread(render, snapshot, accept.decode("latin-1"))
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
