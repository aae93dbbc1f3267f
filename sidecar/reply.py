"""The one place where an error becomes an answer."""

from __future__ import annotations

import math
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from sidecar.errors import SidecarError

_PHRASES: Final = {
    400: b"Bad Request",
    404: b"Not Found",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    414: b"URI Too Long",
    422: b"Unprocessable Content",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    508: b"Loop Detected",
}


class DateField:
    """The ``Date`` field's line, formatted once a second (RFC 9110, section 6.6.1)."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """``Date: …`` with its CRLF."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


DATE: Final = DateField()


def error_reply(error: SidecarError, *, accept: list[bytes], correlation_id: bytes, added: bytes) -> bytes:
    """The whole answer to a request that the sidecar refuses or cannot serve.

    Args:
        error: What went wrong.
        accept: The request's ``Accept`` values; ``application/problem+json`` chooses RFC 9457's form.
        correlation_id: The request's, for the body; ``added`` carries it as a field.
        added: Field lines of our own, each with its CRLF.
    """
    identity = correlation_id.decode("latin-1")
    body: dict[str, object]
    if any(b"application/problem+json" in value.lower() for value in accept):
        media_type = b"application/problem+json"
        body = {
            "type": "about:blank",
            "title": _PHRASES[error.answer_status].decode(),
            "status": error.answer_status,
            "detail": error.message,
            "code": error.code,
            "correlation_id": identity,
            **(error.details or {}),
        }
    else:
        media_type = b"application/json"
        content = {"code": error.code, "message": error.message, "correlation_id": identity}
        body = {"error": {**content, **(error.details or {})}}
    payload = orjson.dumps(body)
    retry_after = b""
    if error.retry_after is not None:
        retry_after = b"Retry-After: %d\r\n" % max(1, math.ceil(error.retry_after))
    return (
        b"HTTP/1.1 %d %b\r\n%bContent-Type: %b\r\nContent-Length: %d\r\nX-Sidecar-Reason: %b\r\n%b%b\r\n%b"
        % (
            error.answer_status,
            _PHRASES[error.answer_status],
            DATE.line(),
            media_type,
            len(payload),
            error.code.lower().encode(),
            retry_after,
            added,
            payload,
        )
    )
