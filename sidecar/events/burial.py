"""Events that could not be published, as dead letters."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.record import Attempt, Origin, Record, clean_text
from sidecar.dlq.store import QueueName
from sidecar.events.cloudevents import idempotency_key
from sidecar.events.identity import record_id
from sidecar.events.stream import EventRefusedError

if TYPE_CHECKING:
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.cloudevents import Event

_logger = logging.getLogger(__name__)


class Burial:
    """Makes dead letters whose retry publishes the event.

    Args:
        dead_letters: Where they are stored.
        service: In whose queue.
        clock: Tells when.
    """

    def __init__(self, dead_letters: DeadLetterStore, service: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._dead_letters = dead_letters
        self._service = service
        self._clock = clock

    async def __call__(self, event_type: str, event: Event, error: Exception) -> None:
        """Store ``event``; it returns when that is done.

        Raises:
            DeadLetterError: The store cannot be used.
        """
        now = self._clock.wall()
        text = clean_text(str(error))
        reason = "stream_refused" if isinstance(error, EventRefusedError) else "stream_unavailable"
        record = Record(
            id=record_id(event),
            event_type=event_type,
            origin=Origin(kind="stream"),
            data=event.data,
            event=dict(event.attributes),
            error=text,
            reason=reason,
            attempts=(Attempt(at=now, error=text),),
            source_service=self._service,
            correlation_id=event.correlation_id,
            trace_id=event.trace_id,
            idempotency_key=idempotency_key(event.id).decode(),
            first_failed_at=now,
            last_failed_at=now,
            stored_at=now,
        )
        await self._dead_letters.add(QueueName(self._service, event_type), record)
        _logger.warning(
            "event %s of %s is a dead letter (%s): %s",
            *(event.id, event_type, reason, text),
            extra=event.log_fields,
        )
