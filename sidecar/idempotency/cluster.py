"""Which node of a Redis Cluster holds a key."""

from __future__ import annotations

import asyncio
import random
from binascii import crc_hqx
from typing import TYPE_CHECKING

import hiredis

from sidecar.idempotency.address import Endpoint
from sidecar.idempotency.connection import pack
from sidecar.idempotency.link import Link, refusal
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.idempotency.address import RedisAddress
    from sidecar.idempotency.connection import Reply

SLOTS = 16_384
_REFRESH_INTERVAL = 0.5  # seconds at least between two looks at the map
_PATIENCE = 1.0


def slot_of(key: bytes) -> int:
    """The key's hash slot: CRC-16/XMODEM of the key, or of its first ``{…}`` that is not empty."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


class Cluster:
    """The cluster's map and a link to each of its masters.

    The map is read when it is first needed, and again after a node has redirected a command or cannot be
    reached.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._seeds = address.endpoints
        self._credentials = address.credentials
        self._tls = address.ssl_context()
        self._slots: list[Endpoint] = []
        self._links: dict[Endpoint, Link] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = float("-inf")

    def link(self, key: bytes) -> Link | None:
        """The link to the node that holds ``key``; ``None`` while the map is not known."""
        return self._to(self._slots[slot_of(key)]) if self._slots else None

    async def find(self, key: bytes) -> Link:
        """The same, after reading the map.

        Raises:
            StoreError: No node gives it.
        """
        await asyncio.shield(self._refresh())
        return self._to(self._slots[slot_of(key)])

    async def masters(self) -> list[Link]:
        """Links to all masters, always in the same order.

        Raises:
            StoreError: No node gives the map.
        """
        if not self._slots:
            await asyncio.shield(self._refresh())
        return [self._to(endpoint) for endpoint in sorted(set(self._slots))]

    def listen(self, channel: bytes, hear: Callable[[list[Reply]], None]) -> Link:
        """A link of its own for a subscription; a cluster carries messages from every node to every node."""
        return Link(
            self._any_node, credentials=self._credentials, tls=self._tls, channel=channel, on_push=hear
        )

    def moved(self, error: hiredis.HiredisError) -> Link:
        """The link that a redirection (``MOVED`` or ``ASK``) points to."""
        kind, slot, place = str(error).split()[:3]
        host, _, port = place.rpartition(":")
        endpoint = Endpoint(host.strip("[]"), int(port))
        if kind == "MOVED":
            if self._slots:
                self._slots[int(slot)] = endpoint
            self.suspect()
        return self._to(endpoint)

    def suspect(self) -> None:
        """The map may be out of date: read it again, but not all the time."""
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= _REFRESH_INTERVAL:
            self._refresh().add_done_callback(lambda task: task.exception())

    async def aclose(self) -> None:
        """Close all links."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        for link in self._links.values():
            await link.aclose()

    async def _any_node(self) -> Endpoint:
        return random.choice(sorted(set(self._slots)) or self._seeds)  # noqa: S311 - spreads load

    def _to(self, endpoint: Endpoint) -> Link:
        link = self._links.get(endpoint)
        if link is None:

            async def resolve() -> Endpoint:
                return endpoint

            link = self._links[endpoint] = Link(
                resolve, credentials=self._credentials, tls=self._tls, on_trouble=self.suspect
            )
        return link

    def _refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshed_at = asyncio.get_running_loop().time()
            self._refreshing = asyncio.create_task(self._read_map(), name="idempotency cluster map")
        return self._refreshing

    async def _read_map(self) -> None:
        problems = []
        for endpoint in dict.fromkeys((*self._slots, *self._seeds)):
            try:
                reply = await self._to(endpoint).send(pack(("CLUSTER", "SLOTS")), _PATIENCE)
            except StoreError as error:
                problems.append(f"{endpoint}: {error}")
                continue
            if isinstance(reply, hiredis.HiredisError):
                problems.append(f"{endpoint}: {refusal(reply)}")
                continue
            slots = _read_slots(reply, endpoint)
            if None in slots:
                problems.append(f"{endpoint}: not all slots are served")
                continue
            self._slots = [place for place in slots if place is not None]
            await self._drop_links(keep=(*self._slots, *self._seeds))
            return
        raise StoreError(
            f"no map of the cluster ({'; '.join(problems)})", reason="cluster_down", maybe_done=False
        )

    async def _drop_links(self, keep: Iterable[Endpoint]) -> None:
        for endpoint in self._links.keys() - set(keep):
            await self._links.pop(endpoint).aclose()


def _read_slots(reply: Reply, asked: Endpoint) -> list[Endpoint | None]:
    """What ``CLUSTER SLOTS`` says; a node without a host is the one that was asked."""
    slots: list[Endpoint | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in reply:
        endpoint = Endpoint(host.decode() if host else asked.host, port)
        for slot in range(first, last + 1):
            slots[slot] = endpoint
    return slots
