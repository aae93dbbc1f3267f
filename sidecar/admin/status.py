"""The sidecar as a whole: how it is, what it is configured to do, and what can be asked of it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from sidecar.admin.answers import json_answer, moment
from sidecar.admin.changes import describe_change
from sidecar.admin.reading import query_of, read_object
from sidecar.errors import BadRequest, ConfigurationInvalid
from sidecar.log import LEVELS, mask_url
from sidecar.settings.present import present
from sidecar.version import VERSION

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.admin.control import Control


async def show_status(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/status``."""
    query_of(request)
    settings = control.settings
    not_ready, problem, load = await control.not_ready(), await control.store_problem(), await control.load()
    return json_answer(
        {
            "service": settings.service,
            "version": VERSION,
            "pid": os.getpid(),
            "started_at": moment(control.started_at),
            "uptime": round(time.time() - control.started_at, 3),
            "ready": not not_ready,
            "not_ready_because": not_ready or None,
            "draining": control.draining,
            "in_flight": load.in_flight,
            "tasks": len(asyncio.all_tasks()),
            "workers": settings.workers,
            "log_level": control.log.level,
            "store": {"url": mask_url(settings.store), "reachable": not problem, "problem": problem or None},
            "idempotency": {"running": load.executions, "unwritten": load.unwritten},
            "configuration": {"mistakes": control.reload_failed},
        }
    )


async def show_configuration(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/config``: what is in force, as it would be written, secrets masked."""
    query_of(request)
    return json_answer(present(control.settings))


async def show_routes(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/routes``: in the order in which they are tried."""
    query_of(request)
    return json_answer({"items": [present(route) for route in control.settings.routes]})


async def reload(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/reload``: as SIGHUP does, and with the mistakes as the answer."""
    members = await read_object(request)
    describe_change(request, why=members.reason())
    members.nothing_else()
    mistakes = await control.reload()
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigurationInvalid(
            f"the configuration has {count}; the one before stays in force", details={"mistakes": mistakes}
        )
    return json_answer({"reloaded": True})


async def drain(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/drain``: as SIGTERM does; the process ends when what is under way has ended."""
    members = await read_object(request)
    describe_change(request, why=members.reason())
    members.nothing_else()
    load = await control.load()
    control.drain()
    return json_answer({"draining": True, "in_flight": load.in_flight}, status=202)


async def set_log_level(request: web.Request, control: Control) -> web.Response:
    """``PUT /admin/log-level``: until the configuration names another level, or a restart."""
    members = await read_object(request)
    level = members.take("level", str).lower()
    describe_change(request, why=members.reason(), log_level=level[:20])
    members.nothing_else()
    if level not in LEVELS:
        raise BadRequest(f"level is one of {', '.join(LEVELS)}, not {level[:20]!r}")
    await control.set_log_level(level)
    return json_answer({"level": level})
