"""The things that the admin port's calls take and give, as JSON Schemas."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
MAYBE_MOMENT: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
WHOLE: Final[Schema] = {"type": "integer", "minimum": 0}
MAYBE_NUMBER: Final[Schema] = {"type": ["number", "null"]}
NUMBER: Final[Schema] = {"type": "number"}
TRUTH: Final[Schema] = {"type": "boolean"}
REASON: Final[Schema] = {"type": "string", "maxLength": 500, "description": "Why; it is logged."}
ANYTHING: Final[Schema] = {}


def ref(name: str) -> Schema:
    """The schema called ``name``."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Schema) -> Schema:
    """An array."""
    return {"type": "array", "items": items}


def members(properties: Schema, *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object; all its members are there, but for ``optional`` ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        **more,
    }


def page_of(items: Schema) -> Schema:
    """A part of a listing; ``cursor`` begins the next one and is null after the last."""
    return members({"items": listed(items), "cursor": MAYBE_TEXT})


STATES: Final = ["EXECUTING", "COMPLETED", "UNKNOWN"]
MODES: Final = ["auto", "forced_open", "forced_closed", "observe"]
LEVELS: Final = ["debug", "info", "warning", "error"]

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": members(
        {
            "error": members(
                {
                    "code": {"type": "string", "examples": ["NOT_FOUND"]},
                    "message": TEXT,
                    "correlation_id": TEXT,
                    "mistakes": listed(TEXT),
                },
                optional=("mistakes",),
            )
        }
    ),
    "Status": members(
        {
            "service": TEXT,
            "version": TEXT,
            "pid": WHOLE,
            "started_at": MOMENT,
            "uptime": {"type": "number", "description": "Seconds."},
            "ready": TRUTH,
            "not_ready_because": MAYBE_TEXT,
            "draining": TRUTH,
            "in_flight": WHOLE,
            "tasks": WHOLE,
            "workers": WHOLE,
            "log_level": {"enum": LEVELS},
            "store": members({"url": TEXT, "reachable": TRUTH, "problem": MAYBE_TEXT}),
            "idempotency": members({"running": WHOLE, "unwritten": WHOLE}),
            "configuration": members({"mistakes": listed(TEXT)}),
        }
    ),
    "Upstream": members(
        {
            "name": TEXT,
            "in_flight": WHOLE,
            "bulkhead": members(
                {"limit": WHOLE, "in_use": WHOLE, "waiting": WHOLE, "streams": WHOLE, "adaptive": TRUTH}
            ),
            "retries": members({"active": WHOLE, "in_flight": WHOLE, "allowed": WHOLE}),
            "hosts": listed(ref("Host")),
        }
    ),
    "Host": members(
        {
            "host": TEXT,
            "url": TEXT,
            "healthy": TRUTH,
            "in_flight": WHOLE,
            "connections": members({"open": WHOLE, "idle": WHOLE}),
            "breaker": ref("Breaker"),
        }
    ),
    "Breaker": members(
        {
            "state": {"enum": ["closed", "half_open", "open"]},
            "since": MOMENT,
            "reason": TEXT,
            "counts": members(
                {"calls": WHOLE, "failures": WHOLE, "slow_calls": WHOLE, "failures_in_a_row": WHOLE}
            ),
            "probes_in_flight": WHOLE,
            "retry_after": {"type": "number", "description": "Seconds until a call may be let through."},
            "override": {
                "anyOf": [
                    members({"mode": {"enum": MODES[1:]}, "until": MOMENT, "reason": TEXT}),
                    {"type": "null"},
                ]
            },
        }
    ),
    "IdempotencyRecord": members(
        {
            "id": TEXT,
            "state": {"enum": STATES},
            "route": TEXT,
            "created_at": MOMENT,
            "lease_until": MAYBE_MOMENT,
            "completed_at": MAYBE_MOMENT,
            "unknown_since": MAYBE_MOMENT,
            "unknown_because": MAYBE_TEXT,
            "status": {"type": ["integer", "null"]},
            "correlation_id": TEXT,
        }
    ),
    "Figures": members(
        {
            "at": MOMENT,
            "service": TEXT,
            "version": TEXT,
            "ready": TRUTH,
            "not_ready_because": MAYBE_TEXT,
            "draining": TRUTH,
            "in_flight": WHOLE,
            "requests_per_second": NUMBER,
            "errors_per_second": NUMBER,
            "by_status": {"type": "object", "additionalProperties": NUMBER},
            "latency_ms": members({"p50": MAYBE_NUMBER, "p90": MAYBE_NUMBER, "p99": MAYBE_NUMBER}),
            "upstreams": listed(ref("Upstream")),
            "keys": members(
                {"in_progress": WHOLE, "unknown": {"type": ["integer", "null"]}, "counted_at": MAYBE_MOMENT}
            ),
            "dead_letters": listed(members({"service": TEXT, "event_type": TEXT, "depth": NUMBER})),
        }
    ),
    "DeadLetter": members(
        {
            "id": TEXT,
            "event_type": TEXT,
            "status": TEXT,
            "error": TEXT,
            "reason": TEXT,
            "source_service": TEXT,
            "correlation_id": MAYBE_TEXT,
            "trace_id": MAYBE_TEXT,
            "idempotency_key": TEXT,
            "first_failed_at": MOMENT,
            "last_failed_at": MOMENT,
            "stored_at": MOMENT,
            "replay_count": WHOLE,
            "attempts": listed({"type": "object"}),
        },
        optional=("idempotency_key", "trace_id", "correlation_id", "reason"),
        description="With `payload` or `request`, and `event` and `edits` where there are any.",
    ),
}
"""By name, as :func:`ref` finds them."""
