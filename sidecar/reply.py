"""The one place where an error becomes an answer."""

from __future__ import annotations

import math
import re
from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, Final

import orjson

from sidecar.digits import decimal

if TYPE_CHECKING:
    from sidecar.errors import SidecarError

_ANYTHING: Final = [b"*/*"]
_JSON: Final = b"application/json"
_END_OF_BODY: Final = b'"}}'
_PROBLEM: Final = b"application/problem+json"
_PHRASES: Final = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Content",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    508: b"Loop Detected",
}


_NO_WEIGHT: Final = re.compile(rb"q=0(?:\.0{0,3})?")


class DateField:
    """The ``Date`` field's line, formatted once a second (RFC 9110, section 6.6.1)."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """``Date: …`` with its CRLF."""
        second = int(time())
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._line


DATE: Final = DateField()


def asks_for_problem(accept: list[bytes] | None) -> bool:
    """Whether ``Accept`` names RFC 9457's type, and not to refuse it (``q=0``: RFC 9110, section 12.4.2)."""
    if accept is None or accept == _ANYTHING or _PROBLEM not in b",".join(accept).lower():
        return False
    for value in accept:
        for member in value.lower().split(b","):
            media_type, *parameters = (part.strip(b" \t") for part in member.split(b";"))
            if media_type == _PROBLEM:
                return not any(_NO_WEIGHT.fullmatch(parameter) for parameter in parameters)
    return False


def error_content(error: SidecarError, *, accept: list[bytes], correlation_id: bytes) -> tuple[bytes, bytes]:
    """The media type and the body of an answer to a request that is refused or cannot be served.

    Args:
        error: What went wrong.
        accept: The request's ``Accept`` values; they may ask for RFC 9457's ``application/problem+json``.
        correlation_id: The request's.
    """
    identity = correlation_id.decode("latin-1")
    if asks_for_problem(accept):
        problem = {
            "type": "about:blank",
            "title": _PHRASES[error.answer_status].decode(),
            "status": error.answer_status,
            "detail": error.message,
            "code": error.code,
            "correlation_id": identity,
        }
        return _PROBLEM, orjson.dumps({**problem, **(error.details or {})})
    content = {"code": error.code, "message": error.message, "correlation_id": identity}
    return _JSON, orjson.dumps({"error": {**content, **(error.details or {})}})


def _whole_seconds(seconds: float) -> int:
    """``Retry-After`` has no fractions; 0 would mean at once."""
    return max(1, math.ceil(seconds))


def error_fields(error: SidecarError) -> list[tuple[bytes, bytes]]:
    """What such an answer has beside its media type and length: the reason, and when to try again."""
    fields = [(b"X-Sidecar-Reason", error.code.lower().encode())]
    if error.retry_after is not None:
        fields.append((b"Retry-After", b"%d" % _whole_seconds(error.retry_after)))
    return fields


def error_reply(
    error: SidecarError, *, accept: list[bytes], correlation_id: bytes, added: bytes
) -> tuple[bytes, bytes]:
    """Head and body of the answer as they go over the wire.

    Args:
        error: What went wrong.
        accept: The request's ``Accept`` values.
        correlation_id: The request's, of the characters that such an id may have.
        added: Field lines of our own, each with its CRLF.
    """
    if error.details or asks_for_problem(accept):
        media_type, body = error_content(error, accept=accept, correlation_id=correlation_id)
    else:
        media_type = _JSON
        body = _start_of_body(error.code, error.message) + correlation_id + _END_OF_BODY
    retry_after = b""
    if error.retry_after is not None:
        retry_after = b"Retry-After: %d\r\n" % _whole_seconds(error.retry_after)
    head = b"%b%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
        _start_of_head(error.answer_status, error.code),
        DATE.line(),
        media_type,
        len(body),
        retry_after,
        added,
    )
    return head, body


@lru_cache(maxsize=256)
def _start_of_head(status: int, code: str) -> bytes:
    return b"HTTP/1.1 %d %b\r\nX-Sidecar-Reason: %b\r\n" % (status, _PHRASES[status], code.lower().encode())


@lru_cache(maxsize=256)
def _start_of_body(code: str, message: str) -> bytes:
    """The body up to the correlation id."""
    return orjson.dumps({"error": {"code": code, "message": message, "correlation_id": ""}}).removesuffix(
        b'"}}'
    )


class FrequentReply:
    """An answer that may be the same for every request of an outage but for its ids: the rest is prepared.

    Args:
        error: What went wrong, whatever it says of ``Retry-After``.

    Attributes:
        status: The answer's.
    """

    __slots__ = ("_body", "_good_until", "_retry_after", "_start", "_start_of_head", "status")

    def __init__(self, error: SidecarError) -> None:
        self.status = error.answer_status
        self._start_of_head = _start_of_head(error.answer_status, error.code)
        self._body = _start_of_body(error.code, error.message)
        self._good_until = 0.0
        self._retry_after = 0
        self._start = b""

    def make(self, now: float, retry_after: int, correlation_id: bytes, added: bytes) -> tuple[bytes, int]:
        """The whole answer, as :func:`error_reply` makes it, and the size of its body.

        Args:
            now: Monotonic seconds.
            retry_after: Seconds, at least 1.
            correlation_id: The request's.
            added: Field lines of our own, each with its CRLF.
        """
        if now >= self._good_until or retry_after != self._retry_after:
            date = DATE.line()
            self._good_until = now + 1 - time() % 1  # the Date field has whole seconds
            self._retry_after = retry_after
            self._start = b"%b%bContent-Type: %b\r\nRetry-After: %d\r\n" % (
                self._start_of_head,
                date,
                _JSON,
                retry_after,
            )
        size = len(self._body) + len(correlation_id) + len(_END_OF_BODY)
        answer = b"%bContent-Length: %b\r\n%b\r\n%b%b%b" % (
            self._start,
            decimal(size),
            added,
            self._body,
            correlation_id,
            _END_OF_BODY,
        )
        return answer, size
