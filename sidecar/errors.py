"""Every error that the sidecar answers a request with.

::

    SidecarError
    ├── BadRequest ─────────────── 400 BAD_REQUEST
    ├── IdempotencyKeyMissing ──── 400 IDEMPOTENCY_KEY_MISSING
    ├── IdempotencyKeyInvalid ──── 400 IDEMPOTENCY_KEY_INVALID
    ├── NoRoute ────────────────── 404 NO_ROUTE
    ├── RequestTimeout ─────────── 408 REQUEST_TIMEOUT
    ├── DuplicateInProgress ────── 409 DUPLICATE_REQUEST_IN_PROGRESS
    ├── OutcomeUnknown ─────────── 409 IDEMPOTENCY_OUTCOME_UNKNOWN   (504 for whose own exchange it was)
    ├── ResponseNotReplayable ──── 409 RESPONSE_NOT_REPLAYABLE
    ├── BodyTooLarge ───────────── 413 BODY_TOO_LARGE
    ├── UriTooLong ─────────────── 414 URI_TOO_LONG
    ├── KeyConflict ────────────── 422 IDEMPOTENCY_KEY_CONFLICT
    ├── HeadersTooLarge ────────── 431 HEADERS_TOO_LARGE
    ├── NotSupported ───────────── 501 NOT_IMPLEMENTED
    ├── UpstreamError
    │   ├── UpstreamUnreachable ── 502 UPSTREAM_UNREACHABLE
    │   ├── UpstreamProtocolError  502 UPSTREAM_PROTOCOL_ERROR
    │   └── UpstreamTimeout ────── 504 UPSTREAM_TIMEOUT
    ├── CircuitOpen ────────────── 503 CIRCUIT_OPEN
    ├── BulkheadFull ───────────── 503 BULKHEAD_FULL
    ├── StoreUnavailable ───────── 503 IDEMPOTENCY_STORE_UNAVAILABLE
    ├── AuditUnavailable ───────── 503 AUDIT_UNAVAILABLE
    ├── LoopDetected ───────────── 508 LOOP_DETECTED
    └── AdminError: only the admin port answers with these
        ├── Unauthorized ───────── 401 UNAUTHORIZED
        ├── Forbidden ──────────── 403 FORBIDDEN
        ├── NotFound ───────────── 404 NOT_FOUND
        ├── MethodNotAllowed ───── 405 METHOD_NOT_ALLOWED
        ├── Conflict ───────────── 409 CONFLICT
        ├── MediaTypeNotSupported  415 UNSUPPORTED_MEDIA_TYPE
        ├── ConfigurationInvalid ─ 422 CONFIGURATION_INVALID
        ├── RedeliveryFailed ───── 502 REDELIVERY_FAILED
        ├── DeadLettersUnavailable 503 DEAD_LETTERS_UNAVAILABLE
        ├── EventsUnavailable ──── 503 EVENTS_UNAVAILABLE
        └── TooManyViewers ─────── 503 TOO_MANY_VIEWERS
    ClientGone: nobody is left to answer

One place, :mod:`sidecar.reply`, turns an error into bytes.
"""

from __future__ import annotations

from typing import ClassVar

Details = dict[str, int | str | list[str]]
"""Further members of an answer's ``error`` object."""


class SidecarError(Exception):
    """A request that the sidecar itself answers.

    Attributes:
        status: HTTP status code of the answer.
        code: Stable upper-case word that programs compare; the message is for people.
        retry_after: Seconds until another try makes sense, or ``None``. Sent as ``Retry-After``.
        reason: A finer cause for logs and metrics, such as ``first_byte`` for a timeout.
        details: Further members of the answer's ``error`` object.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        status: int | None = None,
        details: Details | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.details = details
        self.answer_status = self.status if status is None else status


class BadRequest(SidecarError):
    """The request breaks RFC 9110 or RFC 9112; the connection cannot be trusted any further."""

    status, code = 400, "BAD_REQUEST"


class IdempotencyKeyMissing(SidecarError):
    """The route requires an ``Idempotency-Key`` and the request has none."""

    status, code = 400, "IDEMPOTENCY_KEY_MISSING"


class IdempotencyKeyInvalid(SidecarError):
    """The ``Idempotency-Key`` is malformed."""

    status, code = 400, "IDEMPOTENCY_KEY_INVALID"


class NoRoute(SidecarError):
    """No route matches the request."""

    status, code = 404, "NO_ROUTE"


class RequestTimeout(SidecarError):
    """The client took too long to send its head or its body."""

    status, code = 408, "REQUEST_TIMEOUT"


class DuplicateInProgress(SidecarError):
    """The first request with this key is still running."""

    status, code = 409, "DUPLICATE_REQUEST_IN_PROGRESS"


class OutcomeUnknown(SidecarError):
    """A request with this key was sent and nobody knows whether it took effect."""

    status, code = 409, "IDEMPOTENCY_OUTCOME_UNKNOWN"


class ResponseNotReplayable(SidecarError):
    """The key is settled, but its response was too large to keep."""

    status, code = 409, "RESPONSE_NOT_REPLAYABLE"


class BodyTooLarge(SidecarError):
    """The request's body is over ``limits.body``."""

    status, code = 413, "BODY_TOO_LARGE"


class UriTooLong(SidecarError):
    """The request line is over ``limits.request_line``."""

    status, code = 414, "URI_TOO_LONG"


class KeyConflict(SidecarError):
    """The key was used with a different request."""

    status, code = 422, "IDEMPOTENCY_KEY_CONFLICT"


class HeadersTooLarge(SidecarError):
    """The head is over ``limits.header_bytes`` or ``limits.headers``."""

    status, code = 431, "HEADERS_TOO_LARGE"


class NotSupported(SidecarError):
    """A method or feature that a reverse proxy does not offer (CONNECT)."""

    status, code = 501, "NOT_IMPLEMENTED"


class UpstreamError(SidecarError):
    """The upstream did not give a whole, well-formed answer in time.

    Attributes:
        sent: Whether any byte of the request may have reached the upstream.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        sent: bool = False,
        retry_after: float | None = None,
        details: Details | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after, details=details)
        self.sent = sent


class UpstreamUnreachable(UpstreamError):
    """Connecting failed, or the connection broke before a response."""

    status, code = 502, "UPSTREAM_UNREACHABLE"


class UpstreamProtocolError(UpstreamError):
    """The upstream's answer is malformed."""

    status, code = 502, "UPSTREAM_PROTOCOL_ERROR"


class UpstreamTimeout(UpstreamError):
    """One of the upstream's timeouts ran out; ``reason`` names it."""

    status, code = 504, "UPSTREAM_TIMEOUT"


class CircuitOpen(SidecarError):
    """Every host's circuit breaker is open."""

    status, code = 503, "CIRCUIT_OPEN"


class BulkheadFull(SidecarError):
    """All permits are in use and the queue is full, or the wait in it was too long."""

    status, code = 503, "BULKHEAD_FULL"


class StoreUnavailable(SidecarError):
    """The idempotency store did not answer a claim."""

    status, code = 503, "IDEMPOTENCY_STORE_UNAVAILABLE"


class AuditUnavailable(SidecarError):
    """The intent of a ``required`` audit row could not be made durable."""

    status, code = 503, "AUDIT_UNAVAILABLE"


class LoopDetected(SidecarError):
    """The request has passed through this sidecar before."""

    status, code = 508, "LOOP_DETECTED"


class AdminError(SidecarError):
    """A call of the admin port that is refused."""


class Unauthorized(AdminError):
    """The call lacks the token, or shows another one."""

    status, code = 401, "UNAUTHORIZED"


class Forbidden(AdminError):
    """The call comes from a web page of another origin, or names a host that this port is not."""

    status, code = 403, "FORBIDDEN"


class NotFound(AdminError):
    """There is no such thing to look at or to change."""

    status, code = 404, "NOT_FOUND"


class MethodNotAllowed(AdminError):
    """The path exists, but not with this method."""

    status, code = 405, "METHOD_NOT_ALLOWED"


class Conflict(AdminError):
    """The thing is in a state that does not allow the change."""

    status, code = 409, "CONFLICT"


class MediaTypeNotSupported(AdminError):
    """A browser's change must be ``application/json``, which no form of another site can send."""

    status, code = 415, "UNSUPPORTED_MEDIA_TYPE"


class ConfigurationInvalid(AdminError):
    """The configuration has mistakes, or changes what only a restart can; ``details`` lists them."""

    status, code = 422, "CONFIGURATION_INVALID"


class RedeliveryFailed(AdminError):
    """A dead letter was sent again and failed again; it is kept, with the attempt added."""

    status, code = 502, "REDELIVERY_FAILED"


class DeadLettersUnavailable(AdminError):
    """The store of dead letters cannot be used now."""

    status, code = 503, "DEAD_LETTERS_UNAVAILABLE"


class EventsUnavailable(AdminError):
    """An event could be made durable nowhere; nothing of it was kept."""

    status, code = 503, "EVENTS_UNAVAILABLE"


class TooManyViewers(AdminError):
    """As many streams of live figures are open as there may be."""

    status, code = 503, "TOO_MANY_VIEWERS"


class ClientGone(Exception):
    """The client's connection is gone, or nothing passes on it any more; there is nobody to answer.

    Attributes:
        reason: ``client_gone``, or ``client_slow`` for one that took nothing for too long.
    """

    def __init__(self, reason: str = "client_gone") -> None:
        super().__init__(reason)
        self.reason = reason
