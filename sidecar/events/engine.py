"""Events and dead letters at work. Made when the first of them is there, or a subscription wants some."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sidecar.dlq.operator import Operator
from sidecar.dlq.record import check_event_type
from sidecar.events.burial import Burial
from sidecar.events.cloudevents import Publication, read_event
from sidecar.events.deliver import Deliverer
from sidecar.events.outbox import Outbox
from sidecar.events.publisher import Published, Publisher
from sidecar.events.redelivery import Redelivery
from sidecar.events.subscriptions import Subscriptions
from sidecar.metrics.outcomes import DELIVERY_OUTCOMES, PUBLISH_OUTCOMES
from sidecar.spans import Purpose
from sidecar.spool.model import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sidecar.clock import Clock
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.backend import Backend
    from sidecar.internal import InternalCalls
    from sidecar.metrics.cells import Counter
    from sidecar.metrics.names import Metrics
    from sidecar.settings.model import Settings
    from sidecar.spans import Spans
    from sidecar.spool.lazy import LazySpool
    from sidecar.tracing.record import AttributeValue

_logger = logging.getLogger(__name__)


class EventEngine:
    """Publishing, delivering, and what could not be delivered.

    Args:
        settings: The configuration in force.
        backend: Where events and dead letters live.
        calls: How requests go upstream.
        spans: Takes those of publishing.
        metrics: Where figures go.
        spool: Where events wait while the backend is away.
        clock: Tells the time.

    Attributes:
        operator: What operators can do with dead letters.
        subscriptions: Who gets events.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        *,
        calls: InternalCalls,
        spans: Spans,
        metrics: Metrics,
        spool: LazySpool,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._spans = spans
        self._spool = spool
        self._clock = clock
        service, streams, dead_letters = settings.service, backend.streams, backend.dead_letters
        bury = Burial(dead_letters, service, clock)
        self._outbox = Outbox(spool.open, streams=streams, bury=bury) if backend.lasting else None
        self._publisher = Publisher(
            streams,
            bury=bury,
            outbox=self._outbox,
            count=_counting(metrics.events_published.children("outcome", PUBLISH_OUTCOMES)),
            clock=clock,
        )
        deliver = Deliverer(calls)
        self.subscriptions = Subscriptions(
            service=service,
            streams=streams,
            deliver=deliver,
            dead_letters=dead_letters,
            count=_counting(metrics.event_deliveries.children("outcome", DELIVERY_OUTCOMES)),
        )
        redeliver = Redelivery(streams, deliver=deliver, calls=calls, targets=self.subscriptions.targets)
        self.operator = Operator(dead_letters, service=service, redeliver=redeliver, clock=clock)

    @property
    def dead_letters(self) -> DeadLetterStore:
        """What could not be delivered."""
        return self._backend.dead_letters

    async def start(self) -> None:
        """Begin to deliver, and go on with what an earlier process has left in the spool."""
        if self._outbox is not None and self._spool.exists:
            try:
                await self._outbox.resume()
            except SpoolError as error:
                _logger.warning("events in the spool must wait: %s", error)
        await self.subscriptions.apply(self._settings.events)

    async def apply(self, settings: Settings) -> None:
        """Put another configuration in force."""
        self._settings = settings
        self._backend.dead_letters.max_age = settings.dead_letters.max_age
        await self.subscriptions.apply(settings.events)

    async def publish(
        self, event_type: str, headers: Sequence[tuple[str, str]], body: bytes, *, correlation_id: str
    ) -> Published:
        """Publish what a request brings.

        Raises:
            ValueError: The event type is malformed, or the request brings no event.
            EventsUnavailableError: It could be stored nowhere.
        """
        trace = self._spans.follow(_values(headers, "traceparent"), _values(headers, "tracestate"))
        started_ns = time.time_ns()
        publication = Publication(
            event_type=check_event_type(event_type),
            service=self._settings.service,
            now=self._clock.wall(),
            correlation_id=correlation_id,
            traceparent=self._spans.traceparent(trace),
        )
        event = read_event(headers, body, publication)
        error = "refused"
        try:
            where = await self._publisher.publish(event_type, event)
            error = ""
        finally:
            if self._spans.is_recorded(trace):
                purpose = Purpose(f"publish {event_type}", "producer", _attributes(event_type, event.id))
                self._spans.export(trace, purpose, started_ns, correlation_id=correlation_id, error=error)
        return Published(event.id, where)

    async def stop_delivering(self, grace: float) -> None:
        """Deliver nothing more; what is under way has ``grace`` seconds."""
        await self.subscriptions.stop(grace)

    async def close(self) -> None:
        """Store what is being published, and close connections. Nothing is dead-lettered for the end."""
        await self._publisher.stop()
        if self._outbox is not None:
            await self._outbox.stop()
        await self._backend.close()


def _values(headers: Sequence[tuple[str, str]], name: str) -> list[bytes]:
    return [value.encode("latin-1", "replace") for field, value in headers if field.lower() == name]


def _attributes(event_type: str, event_id: str) -> dict[str, AttributeValue]:
    """As the OpenTelemetry conventions for messaging name them."""
    return {
        "messaging.system": "sidecar",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"events:{event_type}",
        "messaging.message.id": event_id,
    }


def _counting(cells: Mapping[str, Counter]) -> Callable[[str], None]:
    def count(outcome: str) -> None:
        cells[outcome].value += 1

    return count
