"""Requests as dead letters: what the proxy calls when it is about to answer with an error.

Kept are requests that change something (all methods but the safe ones of RFC 9110, section 9.2.1) and found
no working upstream: it could not be reached, did not answer in time or not with HTTP, broke off, or its
breaker was open. A request that was answered, whatever the status, found one; one that was refused because
the sidecar itself is at its limits will come again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.errors import DeadLetterError
from sidecar.dlq.record import HTTP_REQUEST, Attempt, HttpRequest, Origin, Record, clean_text, stored_headers
from sidecar.dlq.store import QueueName
from sidecar.errors import CircuitOpen, ClientGone, SidecarError, UpstreamError
from sidecar.ids import uuid7
from sidecar.net.deadlines import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.dlq.store import DeadLetterStore
    from sidecar.exchange import Exchange, FailedTry

MOST_BODY: Final = 1024 * 1024
"""Octets of a body that is kept. A request with a longer one gets its error and no dead letter."""

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_logger = logging.getLogger(__name__)


class DeadLetterHook:
    """Keeps requests.

    Args:
        store: Gives the store; called when it is needed.
        service: The sidecar's service, in whose queue they are kept.
        drop_headers: Lower-case names of fields that are not kept, besides credentials.
        clock: Tells when.

    Attributes:
        drop_headers: The same; another configuration may have others.
    """

    def __init__(
        self,
        store: Callable[[], Awaitable[DeadLetterStore]],
        *,
        service: str,
        drop_headers: frozenset[str] = frozenset(),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.drop_headers = drop_headers
        self._store = store
        self._queue = QueueName(service, HTTP_REQUEST)
        self._clock = clock

    async def keep(self, exchange: Exchange, error: SidecarError) -> None:
        """Store the request if it is one to be kept, and note the record's id for the answer.

        It returns when the record is stored: only then may the client be told. Where it cannot be stored, or
        the request does not come to its end, the answer says nothing of a dead letter.

        Call it in a task of its own: it waits for the client and for the store.
        """
        cause = _cause_of(error)
        if cause is None or not _is_kept(exchange) or not await _is_whole(exchange):
            return
        record = self._record(exchange, cause)
        try:
            store = await self._store()
            await store.add(self._queue, record)
        except DeadLetterError as failed:
            _logger.warning(
                "a request to route %s is lost, no dead letter of it was kept: %s",
                exchange.plan.name,
                failed,
                extra=_log_fields(exchange),
            )
            return
        exchange.notes += b"X-Dead-Letter-ID: %b\r\n" % record.id.encode()

    def _record(self, exchange: Exchange, error: SidecarError) -> Record:
        now = self._clock.wall()
        head, plan = exchange.head, exchange.plan
        attempts = tuple(_attempt(failed) for failed in exchange.failures)
        text = clean_text(f"{error.code}: {error.message}")
        keys = head.values(b"idempotency-key")
        return Record(
            id=uuid7(),
            event_type=HTTP_REQUEST,
            origin=Origin(
                kind="upstream", upstream=plan.upstream.name, route=plan.name, claim=exchange.claim
            ),
            request=HttpRequest(
                method=head.method.decode("latin-1"),
                target=head.target.decode("latin-1"),
                headers=stored_headers(_fields(exchange), self.drop_headers),
                body=exchange.body.kept,
            ),
            event={},
            error=text,
            reason=error.code.lower()
            if isinstance(error, CircuitOpen)
            else error.reason or error.code.lower(),
            attempts=attempts or (Attempt(at=now, error=text, spent=False),),
            source_service=self._queue.service,
            correlation_id=exchange.correlation_id.decode("latin-1"),
            trace_id=exchange.trace.trace_id,
            idempotency_key=keys[0].decode("latin-1") if len(keys) == 1 else "",
            first_failed_at=attempts[0].at if attempts else now,
            last_failed_at=now,
            stored_at=now,
        )


def _cause_of(error: SidecarError) -> SidecarError | None:
    """The upstream's failure behind ``error``, if there is one; a keyed request's answer hides it."""
    for candidate in (error, error.__cause__):
        if isinstance(candidate, UpstreamError | CircuitOpen):
            return candidate
    return None


def _is_kept(exchange: Exchange) -> bool:
    """Whether the request is one that its route keeps; without a route there is no word on it."""
    if exchange.metrics is None or not exchange.plan.dead_letter or exchange.head_sent:
        return False
    return exchange.head.method not in _SAFE and exchange.head.upgrade is None


async def _is_whole(exchange: Exchange) -> bool:
    """Read the rest of the body; whether all of it is at hand."""
    exchange.has_task = True
    exchange.detach_upstream()
    exchange.total_deadline = exchange.try_deadline = NEVER  # it has run out; from here on the client counts
    length = exchange.head.length
    if length is not None and length > MOST_BODY:
        return _too_long(exchange)
    if exchange.head.expects_continue and exchange.body.forwards_expect and not exchange.bytes_in:
        exchange.connection.write(_CONTINUE)  # the upstream whom it was for has not answered
    try:
        await exchange.body.read(MOST_BODY + 1)
    except (SidecarError, ClientGone):
        return False
    body = exchange.body
    if not body.done or not body.replayable or len(body.kept) > MOST_BODY:
        return _too_long(exchange)
    return True


def _too_long(exchange: Exchange) -> bool:
    _logger.warning(
        "no dead letter is kept of a request to route %s: its body is over %d octets",
        exchange.plan.name,
        MOST_BODY,
        extra=_log_fields(exchange),
    )
    return False


def _log_fields(exchange: Exchange) -> dict[str, str]:
    return {"correlation_id": exchange.correlation_id.decode("latin-1"), "trace_id": exchange.trace.trace_id}


def _fields(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The fields that the upstream would have seen, but for those that are made anew for each attempt."""
    head, connection = exchange.head, exchange.connection
    special = head.special
    fields = [(b"Host", head.host)] if head.host else []
    for line in head.fields.lines:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip(b" \t")))
    chain = [*special.get(b"x-forwarded-for", ()), connection.peer]
    fields.append((b"X-Forwarded-For", b", ".join(chain)))
    if b"x-forwarded-proto" not in special:
        fields.append((b"X-Forwarded-Proto", connection.listener.scheme.encode()))
    if b"x-forwarded-host" not in special and head.host:
        fields.append((b"X-Forwarded-Host", head.host))
    fields += [(b"baggage", value) for value in special.get(b"baggage", ())]
    return fields


def _attempt(failed: FailedTry) -> Attempt:
    error = failed.error
    text = clean_text(f"{error.code}: {error.message} ({failed.host})")
    return Attempt(at=failed.at, error=text, duration=failed.duration)
