"""The event bus: publishing, and who gets what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.admin.answers import correlation_of, json_answer
from sidecar.admin.reading import query_of, read_body
from sidecar.errors import BadRequest, EventsUnavailable
from sidecar.events.publisher import EventsUnavailableError

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.admin.control import Control

_MOST_EVENT: Final = 1024 * 1024
"""Octets of an event: what lies in a stream is held in Redis's memory, for every subscriber."""


async def publish(request: web.Request, control: Control) -> web.Response:
    """``POST /events/{event_type}``: JSON, or a CloudEvent in either mode; 202 once it is durable."""
    query_of(request)
    body = await read_body(request, _MOST_EVENT)
    engine = await control.events.engine()
    try:
        published = await engine.publish(
            request.match_info["event_type"],
            list(request.headers.items()),
            body,
            correlation_id=correlation_of(request),
        )
    except EventsUnavailableError as error:
        raise EventsUnavailable(str(error), retry_after=1.0) from None
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return json_answer({"id": published.id}, status=202)


async def list_subscriptions(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/subscriptions``: how far each is, and what went wrong last."""
    query_of(request)
    subscriptions = control.settings.events.subscriptions
    reports = await (await control.events.engine()).subscriptions.report() if subscriptions else []
    return json_answer(
        {
            "items": [
                {
                    "event_type": report.target.event_type,
                    "upstream": report.target.upstream,
                    "path": report.target.path,
                    "lag": report.lag,
                    "pending": report.pending,
                    "in_flight": report.in_flight,
                    "waiting": report.waiting,
                    "paused_for": round(report.paused_for, 3),
                    "last_error": report.last_error or None,
                }
                for report in reports
            ]
        }
    )
