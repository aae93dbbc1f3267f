"""The id of the dead letter that an event becomes.

It follows from the event: when a consumer stores the record and vanishes before it acknowledges the event,
the next one stores the same record, not a second one.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.events.cloudevents import Event

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def record_id(event: Event, subscription: str = "") -> str:
    """The event's own id where no other event can have it, else a hash of all that tells it apart.

    Args:
        event: The event. Ids are unique within a source alone (CloudEvents 1.0), UUIDs everywhere.
        subscription: Name of the one, where several of one service get the same event.
    """
    if not subscription and _UUID.fullmatch(event.id):
        return event.id
    parts = (subscription, event.attributes["source"], event.id)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
