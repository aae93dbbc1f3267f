"""One Redis server that holds all keys: standalone, or the master that sentinels name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.idempotency.link import Link, refusal
from sidecar.idempotency.sentinel import Sentinels

if TYPE_CHECKING:
    from collections.abc import Callable

    import hiredis

    from sidecar.idempotency.address import Endpoint, RedisAddress
    from sidecar.idempotency.connection import Reply


class Single:
    """The same questions as :class:`~sidecar.idempotency.cluster.Cluster` answers, for one server."""

    def __init__(self, address: RedisAddress) -> None:
        (self._endpoint, *_) = address.endpoints
        sentinels = Sentinels(address) if address.topology == "sentinel" else None
        self.any_node = self._fixed if sentinels is None else sentinels.master
        self._credentials = address.credentials
        self._tls = address.ssl_context()
        self._link = Link(
            self.any_node,
            credentials=self._credentials,
            database=address.database,
            tls=self._tls,
            master_only=sentinels is not None,
        )

    def link(self, key: bytes) -> Link:  # noqa: ARG002 - all keys are in one place
        """The link to the server."""
        return self._link

    async def find(self, key: bytes) -> Link:  # noqa: ARG002
        """The link to the server."""
        return self._link

    async def masters(self) -> list[Link]:
        """The link to the server."""
        return [self._link]

    def moved(self, error: hiredis.HiredisError) -> Link:
        """A server that is part of a cluster has been taken for a single one."""
        raise refusal(error)

    def listen(self, channel: bytes, hear: Callable[[list[Reply]], None]) -> Link:
        """A link of its own for a subscription."""
        return Link(
            self.any_node,
            credentials=self._credentials,
            tls=self._tls,
            channel=channel,
            on_push=hear,
        )

    def suspect(self) -> None:
        """The link looks for the server by itself."""

    async def aclose(self) -> None:
        """Close the link."""
        await self._link.aclose()

    async def _fixed(self) -> Endpoint:
        return self._endpoint
