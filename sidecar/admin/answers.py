"""What the admin port's answers have in common: an id, bounds on browsers, and one form of errors."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from sidecar.correlation import choose
from sidecar.errors import BadRequest, BodyTooLarge, Forbidden, MethodNotAllowed, NotFound, SidecarError
from sidecar.reply import error_content, error_fields

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from sidecar.log import Log

CORRELATION_FIELD = "X-Correlation-ID"

# What pages of other sites may do with an answer, and how long a cache may keep it: nothing, and not at all.
_COMMON = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_BY_STATUS = {403: Forbidden, 404: NotFound, 405: MethodNotAllowed, 413: BodyTooLarge}


class _InternalError(SidecarError):
    """Something went wrong that nobody foresaw; the log has the traceback."""


def json_answer(content: object, *, status: int = 200) -> web.Response:
    """An answer that holds ``content``."""
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")


def error_response(error: SidecarError, request: web.Request) -> web.Response:
    """An error as JSON, ``application/problem+json`` where the client's ``Accept`` asks for it."""
    media_type, body = error_content(
        error,
        accept=[value.encode("latin-1", "replace") for value in request.headers.getall("Accept", [])],
        correlation_id=correlation_of(request).encode(),
    )
    status = error.answer_status
    response = web.Response(status=status, body=body, content_type=media_type.decode())
    for name, value in error_fields(error):
        response.headers[name.decode()] = value.decode()
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="sidecar"'
    return response


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


def moment(seconds: float | None) -> str | None:
    """Seconds since the Unix epoch by RFC 3339, in UTC with milliseconds; nothing stays nothing."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def add_common_fields(request: web.Request, response: web.StreamResponse) -> None:
    """The fields that every answer has; called before its head is written, streams included."""
    response.headers[CORRELATION_FIELD] = correlation_of(request)
    response.headers["Server"] = "sidecar"
    for name, value in _COMMON.items():
        response.headers.setdefault(name, value)


def errors_answered(log: Log) -> Middleware:
    """A middleware that turns whatever is raised into an answer; what nobody foresaw is logged."""

    @web.middleware
    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except SidecarError as error:
            return error_response(error, request)
        except web.HTTPException as error:
            return _translated(error, request)
        except ConnectionError:
            return web.Response()  # the client is gone; left alone, aiohttp would log an error of ours
        except Exception as error:  # noqa: BLE001 - the last resort; nothing of it may reach a stranger
            log.crash("admin call failed", error, what=f"{request.method} {request.path}")
            return error_response(_InternalError("something went wrong; the log says what"), request)

    return answered


def _translated(error: web.HTTPException, request: web.Request) -> web.Response:
    """An error that aiohttp itself made."""
    kind = _BY_STATUS.get(error.status, BadRequest)
    message = f"{error.reason}: {request.method} {request.path}; /openapi.json describes all calls"
    response = error_response(kind(message, status=error.status), request)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
