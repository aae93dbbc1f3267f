"""Spans for ASGI applications that run without the sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from sidecar.asgi import route_of
from sidecar.correlation import current_correlation_id
from sidecar.log import mask_query
from sidecar.methods import KNOWN_METHODS, OTHER

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from sidecar.asgi import Application, Message, Receive, Scope, Send

_SERVER_ERROR: Final = 500


class TracingMiddleware:
    """A SERVER span around every request, below the caller's span if the request names one.

    Call :func:`sidecar.tracing.library.init_tracing` before; without it nothing is recorded. The span's name
    becomes ``{method} {route}`` when a framework has left the matched route in the scope, as Starlette does.

    Args:
        app: The ASGI application.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._tracer = trace.get_tracer("sidecar")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; WebSockets and the lifespan pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = KNOWN_METHODS.get(scope["method"].encode("latin-1"), OTHER)
        name = "HTTP" if method == OTHER else method
        with self._tracer.start_as_current_span(
            name,
            context=propagate.extract(_headers(scope)),
            kind=SpanKind.SERVER,
            attributes=_attributes(scope, method),
        ) as span:
            try:
                await self._app(scope, receive, _watching(span, send))
            finally:
                if route := route_of(scope):
                    span.update_name(f"{name} {route}")
                    span.set_attribute("http.route", route)


def _headers(scope: Scope) -> dict[str, str]:
    """Fields by name; lines of the same field joined, as for ``tracestate`` and ``baggage``."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _attributes(scope: Scope, method: str) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if method == OTHER:
        attributes["http.request.method_original"] = scope["method"][:64]
    if query := scope.get("query_string", b""):
        attributes["url.query"] = mask_query(query.decode("latin-1"))
    if client := scope.get("client"):
        attributes["client.address"] = client[0]
    if correlation_id := current_correlation_id():
        attributes["correlation.id"] = correlation_id
    return attributes


def _watching(span: Span, send: Send) -> Send:
    """``send``, noting the status that the client gets."""

    async def send_noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            span.set_attribute("http.response.status_code", status)
            if status >= _SERVER_ERROR:
                span.set_attribute("error.type", str(status))
                span.set_status(Status(StatusCode.ERROR))
        await send(message)

    return send_noted
