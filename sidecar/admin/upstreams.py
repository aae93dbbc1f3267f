"""The upstreams: how each of their hosts is, and who decides whether it is called."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sidecar.admin.answers import json_answer, moment
from sidecar.admin.changes import describe_change
from sidecar.admin.reading import query_of, read_object
from sidecar.breaker.states import Mode
from sidecar.errors import BadRequest, NotFound
from sidecar.settings.units import parse_duration

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.admin.control import Control
    from sidecar.admin.reading import Members
    from sidecar.breaker.states import Override
    from sidecar.load import Connections, Load
    from sidecar.upstreams import Upstream, UpstreamHost


async def list_upstreams(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/upstreams``."""
    query_of(request)
    load = await control.load()
    return json_answer({"items": [describe(it, load) for it in control.pipeline.upstreams.values()]})


async def show_upstream(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/upstreams/{name}``."""
    query_of(request)
    return json_answer(describe(_find(request, control), await control.load()))


async def override_breaker(request: web.Request, control: Control) -> web.Response:
    """``PUT /admin/upstreams/{name}/breaker``: for all hosts of the upstream, with a time limit."""
    upstream = _find(request, control)
    members = await read_object(request)
    mode, seconds, reason = _mode(members), _time_limit(members), members.reason()
    describe_change(request, why=reason, mode=mode.value, seconds=seconds)
    members.nothing_else()
    if mode is not Mode.AUTO and not seconds:
        raise BadRequest(f'{mode} needs a time limit: add "for", such as "5m"')
    now = time.monotonic()
    for host in upstream.hosts:
        try:
            host.breaker.override(mode, now, seconds=seconds, reason=reason)
        except ValueError as error:
            raise BadRequest(str(error)) from None
    return json_answer(describe(upstream, await control.load()))


def describe(upstream: Upstream, load: Load) -> dict[str, Any]:
    """An upstream at this moment, as JSON holds it."""
    permits = upstream.permits
    return {
        "name": upstream.name,
        "in_flight": permits.in_use + permits.streams,
        "bulkhead": {
            "limit": permits.limit,
            "in_use": permits.in_use,
            "waiting": permits.waiting,
            "streams": permits.streams,
            "adaptive": upstream.adaptive is not None,
        },
        "retries": {
            "active": upstream.budget.active,
            "in_flight": upstream.budget.retries,
            "allowed": upstream.budget.allowed,
        },
        "hosts": [
            _describe_host(host, load.connections[upstream.name, host.label]) for host in upstream.hosts
        ],
    }


def _describe_host(host: UpstreamHost, connections: Connections) -> dict[str, Any]:
    stats = host.breaker.stats(time.monotonic())
    return {
        "host": host.label,
        "url": str(host.url),
        "healthy": host.health.healthy,
        "in_flight": connections.open - connections.idle,
        "connections": connections._asdict(),
        "breaker": {
            "state": stats.state.value,
            "since": moment(stats.since),
            "reason": stats.reason.value,
            "counts": asdict(stats.counts),
            "probes_in_flight": stats.probes_in_flight,
            "retry_after": stats.retry_after,
            "override": _describe_override(stats.override),
        },
    }


def _describe_override(override: Override | None) -> dict[str, Any] | None:
    if override is None:
        return None
    return {"mode": override.mode.value, "until": moment(override.until), "reason": override.reason}


def _find(request: web.Request, control: Control) -> Upstream:
    name = request.match_info["name"]
    upstream = control.pipeline.upstreams.get(name)
    if upstream is None:
        raise NotFound(
            f"there is no upstream {name[:64]!r}: there is {', '.join(control.pipeline.upstreams)}"
        )
    return upstream


def _mode(members: Members) -> Mode:
    text = members.take("mode", str)
    try:
        return Mode(text)
    except ValueError:
        raise BadRequest(f"mode is one of {', '.join(Mode)}, not {text[:40]!r}") from None


def _time_limit(members: Members) -> float:
    """Seconds, or 0 where none are given."""
    text = members.take("for", str, "")
    if not text:
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"for: {error}") from None
