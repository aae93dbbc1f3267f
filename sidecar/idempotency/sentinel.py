"""Where Redis Sentinel says the master is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import hiredis

from sidecar.idempotency.address import Endpoint
from sidecar.idempotency.connection import Connection
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from sidecar.idempotency.address import RedisAddress

_PATIENCE = 0.3  # seconds for one sentinel to answer; the next one is asked then


class Sentinels:
    """Asks the sentinels one after another, the one that answered last first.

    Whether what they name is a master indeed is for the caller to check: during a failover they may not
    know yet.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._endpoints = list(address.endpoints)
        self._credentials = address.sentinel_credentials
        self._master = address.master
        self._tls = address.ssl_context()

    async def master(self) -> Endpoint:
        """The master's place.

        Raises:
            StoreError: No sentinel knows it.
        """
        problems = []
        for endpoint in tuple(self._endpoints):
            self._endpoints.remove(endpoint)
            try:
                async with asyncio.timeout(_PATIENCE):
                    answer = await self._ask(endpoint)
            except (OSError, hiredis.HiredisError) as error:  # TimeoutError is an OSError
                problems.append(f"{endpoint}: {error or 'no answer in time'}")
            else:
                if answer is not None:
                    self._endpoints.insert(0, endpoint)
                    host, port = answer
                    return Endpoint(host.decode(), int(port))
                problems.append(f"{endpoint}: knows no master {self._master!r}")
            self._endpoints.append(endpoint)
        raise StoreError(
            f"no sentinel names the master ({'; '.join(problems)})", reason="refused", maybe_done=False
        )

    async def _ask(self, endpoint: Endpoint) -> tuple[bytes, bytes] | None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(loop, _fail_unanswered), endpoint.host, endpoint.port, ssl=self._tls
        )
        try:
            if self._credentials is not None:
                username, password = self._credentials
                await connection.ask("AUTH", *([username] if username else []), password)
            answer: tuple[bytes, bytes] | None = await connection.ask(
                "SENTINEL", "get-master-addr-by-name", self._master
            )
            return answer
        finally:
            connection.abort()


def _fail_unanswered(connection: Connection) -> None:
    for command in connection.unanswered:
        if not command.done():
            command.set_exception(ConnectionResetError("the sentinel closed the connection"))
