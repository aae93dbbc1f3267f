"""Correlation ids for ASGI applications that run without the sidecar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.asgi import header_values
from sidecar.correlation.core import choose
from sidecar.correlation.current import CORRELATION_ID

if TYPE_CHECKING:
    from sidecar.asgi import Application, Message, Receive, Scope, Send

_REQUEST_ID: Final = b"x-request-id"


class CorrelationMiddleware:
    """Gives every request an id and puts it onto its response.

    The application finds it in the request's header, where a malformed one was replaced, and with
    :func:`sidecar.correlation.current_correlation_id`. ``X-Request-ID`` is made in the same way when absent.

    Args:
        app: The ASGI application.
        header: The field that carries the id.
        trust: Whether a client's own id is taken.
    """

    def __init__(self, app: Application, *, header: str = "X-Correlation-ID", trust: bool = True) -> None:
        self._app = app
        self._header = header.lower().encode("ascii")
        self._trust = trust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        correlation_id = choose(header_values(scope, self._header), trust=self._trust)
        request_id = choose(header_values(scope, _REQUEST_ID), trust=self._trust)
        own = {self._header: correlation_id, _REQUEST_ID: request_id}
        passed = [(name, value) for name, value in scope["headers"] if name.lower() not in own]
        # In the scope itself, not in a copy: middleware outside of this one looks there for the route later.
        scope["headers"] = [*passed, *own.items()]
        token = CORRELATION_ID.set(correlation_id.decode())
        try:
            await self._app(scope, receive, self._marking(send, correlation_id))
        finally:
            CORRELATION_ID.reset(token)

    def _marking(self, send: Send, correlation_id: bytes) -> Send:
        """``send``, with the id in the response's head in place of any that the application put there."""

        async def send_marked(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                headers = [item for item in message.get("headers", ()) if item[0].lower() != self._header]
                message = {**message, "headers": [*headers, (self._header, correlation_id)]}
            await send(message)

        return send_marked
