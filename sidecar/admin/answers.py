"""Answers of the admin port that are errors, in the same form as the data path's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.correlation import choose

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CORRELATION_FIELD = "X-Correlation-ID"


def error_response(status: int, code: str, message: str, request: web.Request) -> web.Response:
    """An error as JSON, ``application/problem+json`` where the client's ``Accept`` asks for it."""
    correlation_id = correlation_of(request)
    content = {"code": code, "message": message, "correlation_id": correlation_id}
    media_type, body = "application/json", {"error": content}
    if "application/problem+json" in request.headers.get("Accept", "").lower():
        media_type = "application/problem+json"
        body = {"type": "about:blank", "title": code, "status": status, "detail": message, **content}  # type: ignore[dict-item]
    return web.Response(
        status=status,
        text=json.dumps(body),
        content_type=media_type,
        headers={"X-Sidecar-Reason": code.lower(), CORRELATION_FIELD: correlation_id},
    )


def correlation_of(request: web.Request) -> str:
    """The request's correlation id, its own or a fresh one."""
    found: str | None = request.get("correlation_id")
    if found is None:
        values = [
            value.encode("latin-1", "replace") for value in request.headers.getall(CORRELATION_FIELD, [])
        ]
        found = choose(values).decode()
        request["correlation_id"] = found
    return found


@web.middleware
async def correlated(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give every answer a correlation id, and every error its form."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE"}.get(
            error.status, error.reason.upper().replace(" ", "_")
        )
        return error_response(error.status, code, error.text or error.reason, request)
    if not response.prepared:
        response.headers[CORRELATION_FIELD] = correlation_of(request)
    return response
