"""Delivers an event to a service: a POST as a CloudEvent in binary mode, by the upstream's own way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.events.cloudevents import delivery_headers
from sidecar.internal import request_to
from sidecar.spans import Purpose

if TYPE_CHECKING:
    from sidecar.events.cloudevents import Event
    from sidecar.internal import InternalCalls

ATTEMPT_HEADER: Final = b"x-delivery-attempt"
"""Carries the number of the attempt, from 1, of events and of requests that are sent again."""


class Deliverer:
    """Fills in :class:`~sidecar.events.subscription.Deliver`."""

    def __init__(self, calls: InternalCalls) -> None:
        self._calls = calls

    async def __call__(self, event: Event, event_type: str, *, upstream: str, path: str, attempt: int) -> int:
        """Send ``event`` once; the status of the answer."""
        headers = delivery_headers(event)
        headers.append((ATTEMPT_HEADER, b"%d" % attempt))
        purpose = Purpose(
            f"deliver {event_type}",
            "consumer",
            {
                "messaging.system": "sidecar",
                "messaging.operation.type": "process",
                "messaging.destination.name": f"events:{event_type}",
                "messaging.message.id": event.id,
            },
            event.traceparent,
        )
        head = request_to(b"POST", path.encode(), headers, len(event.data))
        answer = await self._calls.call(
            upstream, head, event.data, purpose, correlation_id=event.correlation_id
        )
        return answer.status
