"""The admin port's server: aiohttp, because nothing here is on the data path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.admin.answers import correlated

if TYPE_CHECKING:
    from sidecar.settings.addresses import Address

_BODY_LIMIT = 16 * 1024 * 1024


def new_application() -> web.Application:
    """An application whose answers have the sidecar's form."""
    return web.Application(middlewares=[correlated], client_max_size=_BODY_LIMIT)


class AdminServer:
    """Serves one application on one address."""

    def __init__(self, app: web.Application, bind: Address) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
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
