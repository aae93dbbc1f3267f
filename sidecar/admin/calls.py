"""Every call of the admin port beyond health and metrics, in one table.

Handlers are named, not imported: what nobody asks for costs the running process no memory. A handler takes
the request and the sidecar, and returns a response.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.admin.changes import tell_change
from sidecar.admin.control import CONTROL
from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from aiohttp import web


class Call(NamedTuple):
    """One call.

    Attributes:
        method: Its method.
        path: Its path, with ``{name}`` for a segment.
        handler: ``module.function`` within this package.
        is_change: Whether it changes something: then a log line tells who did it, and why.
    """

    method: str
    path: str
    handler: str
    is_change: bool = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Import the handler, if it is the first time, and let it answer."""
        module, _, name = self.handler.partition(".")
        handler = getattr(import_module(f"sidecar.admin.{module}"), name)
        control = request.app[CONTROL]
        try:
            response: web.StreamResponse = await handler(request, control)
        except SidecarError as error:
            if self.is_change:
                tell_change(control.log, request, error.answer_status)
            raise
        if self.is_change:
            tell_change(control.log, request, response.status)
        return response


CALLS: Final = (
    Call("GET", "/", "page.show"),
    Call("GET", "/openapi.json", "openapi.show"),
    Call("GET", "/admin/status", "status.show_status"),
    Call("GET", "/admin/config", "status.show_configuration"),
    Call("GET", "/admin/routes", "status.show_routes"),
    Call("GET", "/admin/live", "live.stream"),
    Call("POST", "/admin/reload", "status.reload", is_change=True),
    Call("POST", "/admin/drain", "status.drain", is_change=True),
    Call("PUT", "/admin/log-level", "status.set_log_level", is_change=True),
    Call("GET", "/admin/upstreams", "upstreams.list_upstreams"),
    Call("GET", "/admin/upstreams/{name}", "upstreams.show_upstream"),
    Call("PUT", "/admin/upstreams/{name}/breaker", "upstreams.override_breaker", is_change=True),
    Call("GET", "/admin/idempotency", "idempotency.list_records"),
    Call("POST", "/admin/idempotency/find", "idempotency.find_record"),
    Call("GET", "/admin/idempotency/{id}", "idempotency.show_record"),
    Call("POST", "/admin/idempotency/{id}/release", "idempotency.release_record", is_change=True),
    Call("POST", "/admin/idempotency/{id}/resolve", "idempotency.resolve_record", is_change=True),
    Call("GET", "/admin/dlq", "dlq.list_queues"),
    Call("GET", "/admin/dlq/{event_type}", "dlq.list_records"),
    Call("POST", "/admin/dlq/{event_type}/retry", "dlq.retry_records", is_change=True),
    Call("GET", "/admin/dlq/{event_type}/{id}", "dlq.show_record"),
    Call("PUT", "/admin/dlq/{event_type}/{id}", "dlq.edit_record", is_change=True),
    Call("DELETE", "/admin/dlq/{event_type}/{id}", "dlq.remove_record", is_change=True),
    Call("POST", "/admin/dlq/{event_type}/{id}/retry", "dlq.retry_record", is_change=True),
    Call("GET", "/admin/subscriptions", "events.list_subscriptions"),
    Call("POST", "/events/{event_type}", "events.publish"),
)
