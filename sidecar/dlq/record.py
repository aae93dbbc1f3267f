"""One dead letter: what failed, where, how often, and everything that is needed to send it again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION: Final = 1
"""Version of the stored format. Readers refuse to act on records with a higher one."""

HTTP_REQUEST: Final = "HTTP_REQUEST"
"""Event type of dead letters that are requests."""

_EVENT_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,100}")

# Fields that carry credentials by their definition (RFC 9110, RFC 6265) or by custom, and words that give
# away the rest. A record is read by people and lives for weeks: what is doubtful is not stored.
_CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "cookie2", "set-cookie"})
_CREDENTIAL_WORDS = re.compile(
    r"auth(?!or(?!iz))|token|secret|passw|api[-_]?key|access[-_]?key|session|credential|jwt"
)

# They belong to the connection that has gone (RFC 9110, section 7.6.1), or are made anew for the next one.
_PER_CONNECTION: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-length", "expect", "traceparent", "tracestate", "x-correlation-id"),
        "x-request-timeout-ms",
    }
)

OriginKind = Literal["subscription", "stream", "upstream", "library"]
Status = Literal["pending", "retrying", "unreadable"]


def check_event_type(event_type: str) -> str:
    """``event_type`` itself, if it is one: 1 to 100 letters, digits, ``_``, ``.`` and ``-``.

    Raises:
        ValueError: It is none.
    """
    if _EVENT_TYPE.fullmatch(event_type) is None:
        raise ValueError(
            f"an event type is 1 to 100 letters, digits, '_', '.' and '-', such as REQUEST_CREATED, "
            f"not {event_type[:120]!r}"
        )
    return event_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to deliver.

    Attributes:
        at: When it failed, in seconds since the Unix epoch.
        error: What happened.
        status: The answer, or ``None`` where there was none.
        duration: Seconds that it took, or ``None`` where nobody knows.
        spent: Whether it counts towards ``max_attempts``; a consumer that died in the middle does not.
        by: Who asked for it; empty for the sidecar's own attempts.
        reason: Why it was asked for.
    """

    at: float
    error: str
    status: int | None = None
    duration: float | None = None
    spent: bool = True
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of the payload by a person.

    Attributes:
        at: When, in seconds since the Unix epoch.
        by: Who.
        reason: Why.
        replaced_key: The idempotency key that the record had before.
    """

    at: float
    by: str
    reason: str
    replaced_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where it failed, hence where a retry goes.

    Attributes:
        kind: ``subscription`` (delivery to a service), ``stream`` (publishing), ``upstream`` (a request) or
            ``library`` (the program that put the record there takes it out again).
        upstream: Name of the upstream, for ``subscription`` and ``upstream``.
        path: Path of the subscription.
        route: Name of the route, for ``upstream``.
        claim: Id of the idempotency record that protects the request, for ``upstream`` with a key: its retry
            goes through the same claim, although the credentials that went into it are not stored.
    """

    kind: OriginKind
    upstream: str = ""
    path: str = ""
    route: str = ""
    claim: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as it is kept.

    Attributes:
        method: Its method.
        target: Its target, query included.
        headers: Name and value of each field that is kept, in order (Latin-1, as on the wire).
        body: The bytes of its content.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A dead letter. It carries either ``data`` (an event's payload) or ``request``.

    Attributes:
        id: Its address; never changes.
        event_type: The event type, or ``HTTP_REQUEST``.
        origin: Where it failed.
        data: Bytes of the payload exactly as they were sent: the idempotency key is bound to them.
        request: The request, for ``HTTP_REQUEST``.
        event: The event's CloudEvents attributes; empty for requests.
        error: The last failure, for people.
        reason: The last failure in one word: ``rejected``, ``attempts_exhausted``, ``circuit_open`` …
        attempts: Every attempt, oldest first.
        source_service: The service where it failed.
        correlation_id: Of the event or request; may be empty.
        trace_id: 32 hexadecimal digits, or empty.
        idempotency_key: Sent with every retry. An edited payload gets a new one.
        first_failed_at: Seconds since the Unix epoch.
        last_failed_at: The same.
        stored_at: When it became a dead letter; pages are in this order and its age counts from here.
        replay_count: Retries that people have asked for.
        edits: Changes of the payload, oldest first.
        status: ``pending``; ``retrying`` while a retry holds it; ``unreadable`` for this version.
    """

    id: str
    event_type: str
    origin: Origin
    data: bytes | None = None
    request: HttpRequest | None = None
    event: Mapping[str, str]
    error: str
    reason: str
    attempts: tuple[Attempt, ...] = ()
    source_service: str = ""
    correlation_id: str = ""
    trace_id: str = ""
    idempotency_key: str = ""
    first_failed_at: float
    last_failed_at: float
    stored_at: float
    replay_count: int = 0
    edits: tuple[Edit, ...] = ()
    status: Status = "pending"

    @property
    def payload(self) -> Any:
        """The payload as a value: decoded JSON, else text, else the bytes; ``None`` for a request."""
        if self.data is None:
            return None
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            pass
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return self.data

    def failed_again(self, attempt: Attempt) -> Record:
        """The record after one more failed retry."""
        return replace(
            self,
            attempts=(*self.attempts, attempt),
            error=attempt.error,
            last_failed_at=attempt.at,
            replay_count=self.replay_count + 1,
            status="pending",
        )

    def edited(self, data: bytes, edit: Edit, *, key: str) -> Record:
        """The record with another payload.

        An event, and a request that had an idempotency key, get the new ``key``: the old one may be settled
        at the receiver, who would then answer from memory, or refuse it because of the different payload.
        """
        changed = replace(self, edits=(*self.edits, edit), origin=replace(self.origin, claim=""))
        if self.request is None:
            # Another payload is another event: source and id tell them apart (CloudEvents 1.0, section 3.1).
            event = {**self.event, "id": key} if self.event else self.event
            return replace(changed, data=data, event=event, idempotency_key=key)
        if not self.idempotency_key:
            return replace(changed, request=replace(self.request, body=data))
        request = replace(self.request, body=data, headers=_with_key(self.request.headers, key))
        return replace(changed, request=request, idempotency_key=key)


def _with_key(headers: tuple[tuple[str, str], ...], key: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, key if name.lower() == "idempotency-key" else value) for name, value in headers)


def clean_text(text: str, limit: int = 2000) -> str:
    """``text`` as it can be stored: bounded, and without halves of surrogate pairs."""
    return text[:limit].encode("utf-8", "backslashreplace").decode()


def stored_headers(
    headers: Iterable[tuple[bytes, bytes]], drop: frozenset[str] = frozenset()
) -> tuple[tuple[str, str], ...]:
    """The fields of a request that a record keeps: no credentials, nothing of the connection.

    Args:
        headers: As they came.
        drop: Further names to leave out, in lower case (``dead_letters.drop_headers``).
    """
    kept = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        lower = name.lower()
        if lower in _PER_CONNECTION or lower in drop or _is_credential(lower):
            continue
        kept.append((name, raw_value.decode("latin-1")))
    return tuple(kept)


def _is_credential(name: str) -> bool:
    return name in _CREDENTIALS or _CREDENTIAL_WORDS.search(name) is not None
