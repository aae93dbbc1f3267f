"""The admin port's server: aiohttp, because nothing here is on the data path."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpProcessingError

from sidecar.admin.answers import add_common_fields, errors_answered
from sidecar.admin.calls import CALLS
from sidecar.admin.control import CONTROL
from sidecar.admin.health import add_health_routes
from sidecar.admin.security import guarded_by
from sidecar.admin.streams import STREAMS, Streams

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from sidecar.admin.control import Control
    from sidecar.settings.addresses import Address

_BODY_LIMIT = 16 * 1024 * 1024
_KEEP_ALIVE = 75.0
_SHUTDOWN = 1.0


class _Strangers(logging.Filter):
    """Has malformed requests told in a line: what strangers send is no failure of ours, with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | web.RequestPayloadError):
            record.exc_info = None
            record.levelno = logging.INFO
            # Its kind alone: the message quotes octets, and they may be those of a token.
            record.msg, record.args = "malformed request: %s", (type(error).__name__,)
        return True


logging.getLogger("aiohttp.server").addFilter(_Strangers())


def admin_application(control: Control) -> web.Application:
    """Everything that operators can ask for."""
    app = _application(errors_answered(control.log), guarded_by(control))
    app[CONTROL] = control
    app[STREAMS] = streams = Streams()
    app.on_shutdown.append(streams.close)
    add_health_routes(app, control)
    for call in CALLS:
        app.router.add_route(call.method, call.path, call.answer)
    return app


def scrape_application(control: Control) -> web.Application:
    """Health and metrics alone, for a port that scrapers reach under any name."""
    app = _application(errors_answered(control.log))
    add_health_routes(app, control)
    return app


def _application(*middlewares: Middleware) -> web.Application:
    app = web.Application(middlewares=middlewares, client_max_size=_BODY_LIMIT)
    app.on_response_prepare.append(add_common_fields)
    return app


class AdminServer:
    """Serves one application on one address."""

    def __init__(self, app: web.Application, bind: Address) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_SHUTDOWN,
        )
        self._bind = bind
        self.port = bind.port

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: The address is taken or not ours.
        """
        await self._runner.setup()
        site: web.BaseSite
        if self._bind.unix:
            site = web.UnixSite(self._runner, self._bind.unix)
        else:
            site = web.TCPSite(self._runner, self._bind.host, self._bind.port)
        await site.start()
        if self._runner.addresses and not self._bind.unix:
            self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        await self._runner.cleanup()
