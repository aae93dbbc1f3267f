"""Sends a dead letter to where it failed: the subscription, the stream, or the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.dlq.errors import RedeliveryError
from sidecar.dlq.record import clean_text
from sidecar.errors import CircuitOpen, SidecarError, StoreUnavailable
from sidecar.events.cloudevents import Event, Publication, event_of
from sidecar.events.deliver import ATTEMPT_HEADER
from sidecar.events.stream import EventRefusedError, StreamError
from sidecar.internal import NoSuchUpstreamError
from sidecar.spans import Purpose

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.dlq.record import HttpRequest, Record
    from sidecar.events.stream import Streams
    from sidecar.events.subscription import Deliver, Target
    from sidecar.internal import InternalCalls
    from sidecar.wire.head import RequestHead

_SUCCESSES = range(200, 300)
_ANSWERS = range(200, 400)


class Redelivery:
    """What an :class:`~sidecar.dlq.operator.Operator` retries with.

    Args:
        streams: Where events go that could not be published.
        deliver: How events go to services.
        calls: How requests go upstream.
        targets: The subscriptions of an event type.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        deliver: Deliver,
        calls: InternalCalls,
        targets: Callable[[str], Sequence[Target]],
    ) -> None:
        self._streams = streams
        self._deliver = deliver
        self._calls = calls
        self._targets = targets

    async def __call__(self, record: Record) -> None:
        """Return once the record is where it belongs.

        Raises:
            RedeliveryError: It is not.
        """
        try:
            if record.request is not None:
                await self._repeat(record, record.request)
            elif record.origin.kind == "stream":
                await self._publish(record)
            elif record.origin.kind == "subscription":
                await self._send(record, record.origin.upstream, record.origin.path)
            else:
                await self._send_to_subscriptions(record)
        except SidecarError as error:
            text = clean_text(f"{error.code}: {error.message}")
            down = isinstance(error, CircuitOpen | StoreUnavailable)
            raise RedeliveryError(text, upstream_down=down) from error
        except (NoSuchUpstreamError, EventRefusedError, ValueError) as error:
            raise RedeliveryError(clean_text(str(error))) from error
        except StreamError as error:
            raise RedeliveryError(clean_text(str(error)), upstream_down=True) from error

    async def _publish(self, record: Record) -> None:
        (refusal,) = await self._streams.append([(record.event_type, _event(record))])
        if refusal is not None:
            raise refusal

    async def _send_to_subscriptions(self, record: Record) -> None:
        """A program has stored it, that perhaps runs no more: those get it that get its kind."""
        targets = self._targets(record.event_type)
        if not targets:
            raise RedeliveryError(
                f"nobody subscribes to {record.event_type} here: the program that stored it must take it out"
            )
        for target in targets:
            await self._send(record, target.upstream, target.path)

    async def _send(self, record: Record, upstream: str, path: str) -> None:
        status = await self._deliver(
            _event(record), record.event_type, upstream=upstream, path=path, attempt=_next_attempt(record)
        )
        if status not in _SUCCESSES:
            raise RedeliveryError(f"{status} from POST {path}", status=status)

    async def _repeat(self, record: Record, request: HttpRequest) -> None:
        origin = record.origin
        head = self._head(request, _next_attempt(record))
        purpose = Purpose("retry dead letter", "internal", {"sidecar.dead_letter": record.id})
        plan = self._calls.plan(origin.route)
        if plan is None:  # the route is gone, and with it what protected the key
            answer = await self._calls.call(
                origin.upstream, head, request.body, purpose, correlation_id=record.correlation_id
            )
            status = answer.status
        else:
            status = await self._calls.repeat(
                plan,
                head,
                request.body,
                purpose,
                correlation_id=record.correlation_id,
                claim=origin.claim,
            )
        if status not in _ANSWERS:
            raise RedeliveryError(f"{status} from {request.method} {request.target}", status=status)

    def _head(self, request: HttpRequest, attempt: int) -> RequestHead:
        """The stored head, held to the rules for clients once more: others can write into the store."""
        fields = [f"{name}: {value}".encode("latin-1") for name, value in request.headers]
        fields.append(b"%b: %d" % (ATTEMPT_HEADER, attempt))
        version = b"1.1" if any(name.lower() == "host" for name, _value in request.headers) else b"1.0"
        first = b"%b %b HTTP/%b" % (
            request.method.encode("latin-1"),
            request.target.encode("latin-1"),
            version,
        )
        return self._calls.parse(b"\r\n".join([first, *fields, b"", b""]), len(request.body))


def _event(record: Record) -> Event:
    data = record.data or b""
    if record.event:
        return Event(record.event, data)
    publication = Publication(
        event_type=record.event_type,
        service=record.source_service,
        now=record.first_failed_at,
        correlation_id=record.correlation_id,
    )
    return event_of(publication, data, event_id=record.idempotency_key)


def _next_attempt(record: Record) -> int:
    return 1 + sum(attempt.spent for attempt in record.attempts)
