"""Dead letters for tests."""

from sidecar.dlq.record import Origin, Record

NOW = 1_700_000_000.0
SUBSCRIPTION = Origin(kind="subscription", upstream="app", path="/hooks/request-created")


def a_record(record_id="r-1", *, stored_at=NOW, **changes):
    """A record of an event that its subscriber refused."""
    about = {
        "id": record_id,
        "event_type": "REQUEST_CREATED",
        "origin": SUBSCRIPTION,
        "data": b'{"id":1}',
        "event": {"id": record_id, "source": "/requests", "type": "REQUEST_CREATED", "specversion": "1.0"},
        "error": "422 from the subscriber",
        "reason": "rejected",
        "source_service": "requests",
        "correlation_id": "c-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "idempotency_key": record_id,
        "first_failed_at": stored_at - 1,
        "last_failed_at": stored_at,
        "stored_at": stored_at,
    }
    return Record(**(about | changes))
