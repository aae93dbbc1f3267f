"""Events, streams and subscribers for tests."""

from __future__ import annotations

from sidecar.events.cloudevents import Publication, event_of

TYPE = "REQUEST_CREATED"
NOW = 1_700_000_000.0
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def an_event(event_id="e-1", data=b'{"id":1}', *, event_type=TYPE, **about):
    known = {"correlation_id": "c-1", "traceparent": TRACEPARENT, **about}
    publication = Publication(event_type=event_type, service="requests", now=NOW, **known)
    return event_of(publication, data, event_id=event_id)
