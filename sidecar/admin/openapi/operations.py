"""What each call is for, what it takes, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.admin.openapi.schemas import (
    ANYTHING,
    LEVELS,
    MODES,
    MOMENT,
    REASON,
    STATES,
    TEXT,
    TRUTH,
    WHOLE,
    Schema,
    listed,
    members,
    page_of,
    ref,
)

_STREAM: Final = "text/event-stream"
_JSON: Final = "application/json"
_CLOUDEVENT: Final = "application/cloudevents+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call, without its method and path.

    Attributes:
        name: What programs made from the description call it.
        tag: What it is about.
        summary: What it does.
        status: Of the answer when all is well.
        gives: What that answer is.
        answer: Its body.
        kind: Its media type.
        body: What is sent along.
        accepts: The media types of that.
        query: Parameters by name.
        failures: Statuses of errors beside 400, 401 and 403.
    """

    name: str
    tag: str
    summary: str
    answer: Schema
    status: int = 200
    gives: str = "Done."
    kind: str = _JSON
    body: Schema | None = None
    accepts: tuple[str, ...] = (_JSON,)
    query: dict[str, Schema] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


_WITH_REASON: Final = members({"reason": REASON}, optional=("reason",))
_PAGE: Final[Schema] = {
    "cursor": TEXT,
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
}
_SERVICE: Final[Schema] = {"service": TEXT}
_HEALTH: Final = members({"status": TEXT, "reason": TEXT}, optional=("reason",))

_OBSERVE: Final = {
    ("GET", "/healthz"): Operation(
        name="getLiveness", tag="health", summary="Whether the process is alive.", answer=_HEALTH
    ),
    ("GET", "/readyz"): Operation(
        name="getReadiness",
        tag="health",
        summary="Whether traffic should come: started, not draining, store reachable where required.",
        answer=_HEALTH,
        failures=("503",),
    ),
    ("GET", "/metrics"): Operation(
        name="getMetrics",
        tag="health",
        summary="All figures, as Prometheus text or OpenMetrics by `Accept`.",
        answer=TEXT,
        kind="text/plain",
    ),
    ("GET", "/"): Operation(
        name="getPage", tag="page", summary="The web page.", answer=TEXT, kind="text/html"
    ),
    ("GET", "/openapi.json"): Operation(
        name="getDescription", tag="page", summary="This description.", answer={"type": "object"}
    ),
    ("GET", "/admin/live"): Operation(
        name="followFigures",
        tag="page",
        summary="Figures of everything once a second, as server-sent events.",
        gives="Events whose data is `Figures`.",
        answer=ref("Figures"),
        kind=_STREAM,
        failures=("503",),
    ),
    ("GET", "/admin/status"): Operation(
        name="getStatus", tag="sidecar", summary="Version, uptime, store, draining.", answer=ref("Status")
    ),
    ("GET", "/admin/config"): Operation(
        name="getConfiguration",
        tag="sidecar",
        summary="The configuration in force, as it would be written, secrets masked.",
        answer={"type": "object"},
    ),
    ("GET", "/admin/routes"): Operation(
        name="listRoutes",
        tag="sidecar",
        summary="The routes with their settings, in the order in which they are tried.",
        answer=members({"items": listed({"type": "object"})}),
    ),
}

_CONTROL: Final = {
    ("POST", "/admin/reload"): Operation(
        name="reload",
        tag="sidecar",
        summary="Read the configuration anew and put it in force.",
        answer=members({"reloaded": TRUTH}),
        body=_WITH_REASON,
        failures=("422",),
    ),
    ("POST", "/admin/drain"): Operation(
        name="drain",
        tag="sidecar",
        summary="Refuse new work, finish what is under way, and end the process, as SIGTERM does.",
        status=202,
        answer=members({"draining": TRUTH, "in_flight": WHOLE}),
        body=_WITH_REASON,
    ),
    ("PUT", "/admin/log-level"): Operation(
        name="setLogLevel",
        tag="sidecar",
        summary="Write log lines from a level on, until the configuration names another one.",
        answer=members({"level": {"enum": LEVELS}}),
        body=members({"level": {"enum": LEVELS}, "reason": REASON}, optional=("reason",)),
    ),
    ("GET", "/admin/upstreams"): Operation(
        name="listUpstreams",
        tag="upstreams",
        summary="Every upstream with its hosts, breakers and bulkhead.",
        answer=members({"items": listed(ref("Upstream"))}),
    ),
    ("GET", "/admin/upstreams/{name}"): Operation(
        name="getUpstream",
        tag="upstreams",
        summary="One upstream.",
        answer=ref("Upstream"),
        failures=("404",),
    ),
    ("PUT", "/admin/upstreams/{name}/breaker"): Operation(
        name="overrideBreaker",
        tag="upstreams",
        summary="Decide in the place of the breakers of all its hosts, for a time; `auto` needs no `for`.",
        answer=ref("Upstream"),
        body=members(
            {
                "mode": {"enum": MODES},
                "for": {"type": "string", "examples": ["5m"], "description": "At most 30 days."},
                "reason": REASON,
            },
            optional=("for", "reason"),
        ),
        failures=("404",),
    ),
}

_KEYS: Final = {
    ("GET", "/admin/idempotency"): Operation(
        name="listIdempotencyRecords",
        tag="idempotency",
        summary="Records, without keys and bodies. A page may be empty although more follow.",
        answer=page_of(ref("IdempotencyRecord")),
        query={"state": {"enum": STATES}, "route": TEXT, **_PAGE},
        failures=("503",),
    ),
    ("POST", "/admin/idempotency/find"): Operation(
        name="findIdempotencyRecord",
        tag="idempotency",
        summary="The record of a key, by the route and the headers that tell its callers apart.",
        answer=ref("IdempotencyRecord"),
        body=members(
            {
                "route": TEXT,
                "key": TEXT,
                "headers": {"type": "object", "additionalProperties": TEXT},
            },
            optional=("headers",),
        ),
        failures=("404", "409", "503"),
    ),
    ("GET", "/admin/idempotency/{id}"): Operation(
        name="getIdempotencyRecord",
        tag="idempotency",
        summary="One record.",
        answer=ref("IdempotencyRecord"),
        failures=("404", "409", "503"),
    ),
    ("POST", "/admin/idempotency/{id}/release"): Operation(
        name="releaseIdempotencyRecord",
        tag="idempotency",
        summary="Free the key of an unknown outcome: the next request with it is executed.",
        answer=members({"id": TEXT, "released": TRUTH}),
        body=_WITH_REASON,
        failures=("404", "409", "503"),
    ),
    ("POST", "/admin/idempotency/{id}/resolve"): Operation(
        name="resolveIdempotencyRecord",
        tag="idempotency",
        summary="Decide an unknown outcome: from now on the key is answered with this response.",
        answer=ref("IdempotencyRecord"),
        body=members(
            {
                "status": {"type": "integer", "minimum": 200, "maximum": 599},
                "headers": {
                    "type": "object",
                    "additionalProperties": {"anyOf": [TEXT, listed(TEXT)]},
                },
                "body": {"description": "Text as it is, or any other JSON value. At most 1 MiB."},
                "reason": REASON,
            },
            optional=("headers", "body", "reason"),
        ),
        failures=("404", "409", "413", "503"),
    ),
}

_MESSAGES: Final = {
    ("POST", "/events/{event_type}"): Operation(
        name="publishEvent",
        tag="events",
        summary="Publish an event: a JSON body, or a CloudEvent (structured or binary).",
        status=202,
        gives="The event is durable.",
        answer=members({"id": TEXT}),
        body=ANYTHING,
        accepts=(_JSON, _CLOUDEVENT),
        failures=("413", "503"),
    ),
    ("GET", "/admin/subscriptions"): Operation(
        name="listSubscriptions",
        tag="events",
        summary="Subscriptions with lag, deliveries in flight, and their last error.",
        answer=members({"items": listed({"type": "object"})}),
    ),
    ("GET", "/admin/dlq"): Operation(
        name="listQueues",
        tag="dead letters",
        summary="The queues that hold dead letters.",
        answer=members(
            {
                "items": listed(
                    members({"service": TEXT, "event_type": TEXT, "depth": WHOLE, "oldest_at": MOMENT})
                )
            }
        ),
        failures=("503",),
    ),
    ("GET", "/admin/dlq/{event_type}"): Operation(
        name="listDeadLetters",
        tag="dead letters",
        summary="Records in pages, newest first.",
        answer=page_of(ref("DeadLetter")),
        query={**_SERVICE, "correlation_id": TEXT, "since": MOMENT, **_PAGE},
        failures=("503",),
    ),
    ("GET", "/admin/dlq/{event_type}/{id}"): Operation(
        name="getDeadLetter",
        tag="dead letters",
        summary="One record whole.",
        answer=ref("DeadLetter"),
        query=_SERVICE,
        failures=("404", "503"),
    ),
    ("POST", "/admin/dlq/{event_type}/{id}/retry"): Operation(
        name="retryDeadLetter",
        tag="dead letters",
        summary="Send it to where it failed, with the same id and idempotency key.",
        gives="Delivered and removed.",
        answer={"type": "object"},
        body=_WITH_REASON,
        query=_SERVICE,
        failures=("404", "409", "502", "503"),
    ),
    ("POST", "/admin/dlq/{event_type}/retry"): Operation(
        name="retryDeadLetters",
        tag="dead letters",
        summary="Retry many, one after another; with `Accept: text/event-stream`, tell each as it happens.",
        answer={"type": "object"},
        body=members(
            {"filter": {"type": "object"}, "limit": WHOLE, "dry_run": TRUTH, "reason": REASON},
            optional=("filter", "limit", "dry_run", "reason"),
        ),
        query=_SERVICE,
        failures=("503",),
    ),
    ("PUT", "/admin/dlq/{event_type}/{id}"): Operation(
        name="editDeadLetter",
        tag="dead letters",
        summary="Put a copy with another payload in its place.",
        answer=ref("DeadLetter"),
        body=members({"payload": ANYTHING, "reason": REASON}, optional=("reason",)),
        query=_SERVICE,
        failures=("404", "409", "413", "503"),
    ),
    ("DELETE", "/admin/dlq/{event_type}/{id}"): Operation(
        name="removeDeadLetter",
        tag="dead letters",
        summary="Remove it for good.",
        answer={"type": "object"},
        query={**_SERVICE, "reason": REASON},
        failures=("404", "409", "503"),
    ),
}

OPERATIONS: Final[dict[tuple[str, str], Operation]] = {**_OBSERVE, **_CONTROL, **_KEYS, **_MESSAGES}
"""By method and path."""
