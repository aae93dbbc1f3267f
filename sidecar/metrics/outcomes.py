"""The values of labels that say what came of something. What is not here does not appear."""

from __future__ import annotations

from typing import Final

ATTEMPT_OUTCOMES: Final = (
    "success",
    "failure_status",
    "connect_failure",
    "reset",
    "timeout",
    "protocol_error",
    "cancelled",
)
"""``upstream_attempts_total``: a response that the breaker takes for good, or what went wrong."""

RETRY_OUTCOMES: Final = ("success", "failure")
"""``retries_total``: whether the attempt that was a retry got a response that is no failure."""

REJECTED_BECAUSE: Final = ("queue_full", "queue_timeout")
"""``bulkhead_rejected_total``: no place in the queue, or too long a wait in it."""

IDEMPOTENCY_RESULTS: Final = (
    "executed",
    "replayed",
    "waited",
    "in_progress",
    "conflict",
    "unknown",
    "released",
    "not_stored",
    "not_replayable",
    "unprotected",
    "invalid",
    "missing",
    "store_down",
)
"""``idempotency_requests_total``: what came of the key."""

STORE_OPERATIONS: Final = ("claim", "complete", "release", "mark_unknown")
"""``idempotency_store_seconds``: what a request waited for."""

PUBLISH_OUTCOMES: Final = ("streamed", "spooled", "dead_lettered", "refused")
"""``events_published_total``: durable in the stream, in the spool, as a dead letter; or not accepted."""

DELIVERY_OUTCOMES: Final = ("delivered", "retried", "dead_lettered", "paused")
"""``event_deliveries_total``: acknowledged, to be tried again, given up, or not sent: the breaker
was open, or the bulkhead full."""
