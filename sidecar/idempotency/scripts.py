"""Lua scripts, and running them where their key is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING

import hiredis

from sidecar.idempotency.cluster import Cluster
from sidecar.idempotency.connection import pack
from sidecar.idempotency.core import ForeignRecordError
from sidecar.idempotency.link import Link, refusal
from sidecar.idempotency.single import Single
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.idempotency.address import RedisAddress
    from sidecar.idempotency.connection import Reply

_MOST_REDIRECTIONS = 5
_TELL_TIMEOUT = 1.0


class Script:
    """A Lua script in the ``lua`` folder.

    A call of it is ``by_name`` followed by its key and arguments, packed by :func:`bulk`.

    Attributes:
        by_name: The beginning of a call of the script that the server knows already.
        by_source: The beginning of a call that brings the script along; the server then knows it.
    """

    __slots__ = ("by_name", "by_source")

    def __init__(self, name: str, *, keys: int = 1, arguments: int) -> None:
        source = files("sidecar.idempotency").joinpath("lua", f"{name}.lua").read_bytes()
        digest = sha1(source, usedforsecurity=False).hexdigest().encode()
        length = b"*%d\r\n" % (3 + keys + arguments)
        self.by_name = length + bulk(b"EVALSHA", digest, b"%d" % keys)
        self.by_source = length + bulk(b"EVAL", source, b"%d" % keys)


def bulk(*arguments: bytes) -> bytes:
    """Arguments as they go over the wire."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


class ScriptRunner:
    """Sends scripts to the servers that an address names; has to be made in a running loop."""

    def __init__(self, address: RedisAddress) -> None:
        self.servers: Single | Cluster = (
            Cluster(address) if address.topology == "cluster" else Single(address)
        )

    async def run(self, script: Script, key: bytes, arguments: bytes, patience: float) -> Reply:
        """The script's reply.

        Args:
            script: What to run.
            key: The key that decides where.
            arguments: The key again and what follows it, packed.
            patience: Seconds that the server may be silent.

        Raises:
            StoreError: The server cannot be used.
            ForeignRecordError: ``key`` holds something that is no string.
        """
        link = self.servers.link(key) or await self.servers.find(key)
        reply = await link.send(script.by_name + arguments, patience)
        if isinstance(reply, hiredis.HiredisError):
            return await self.insist(reply, link, script, arguments, patience)
        return reply

    async def run_all(
        self, script: Script, calls: Sequence[tuple[bytes, bytes]], patience: float
    ) -> list[Reply]:
        """The replies to several calls, each a key and packed arguments, that go out together.

        Raises:
            StoreError: A server cannot be used. Some of the calls may have been carried out.
        """
        links = [self.servers.link(key) or await self.servers.find(key) for key, _ in calls]
        futures = [
            link.send(script.by_name + arguments, patience)
            for link, (_, arguments) in zip(links, calls, strict=True)
        ]
        replies = await asyncio.gather(*futures, return_exceptions=True)
        for index, reply in enumerate(replies):
            if isinstance(reply, hiredis.HiredisError):
                _, arguments = calls[index]
                replies[index] = await self.insist(reply, links[index], script, arguments, patience)
            elif isinstance(reply, BaseException):
                raise reply
        return replies

    async def run_at(self, link: Link, script: Script, arguments: bytes, patience: float) -> Reply:
        """The reply of one server to a script without a key."""
        reply = await link.send(script.by_name + arguments, patience)
        if isinstance(reply, hiredis.HiredisError):
            return await self.insist(reply, link, script, arguments, patience)
        return reply

    async def insist(
        self, error: hiredis.HiredisError, link: Link, script: Script, arguments: bytes, patience: float
    ) -> Reply:
        """Do what an error reply asks for, as often as is reasonable; the reply to that.

        Raises:
            StoreError: The server cannot be used.
            ForeignRecordError: The key holds something that is no string.
        """
        asking = False
        for _ in range(_MOST_REDIRECTIONS):
            call = script.by_name + arguments
            word = str(error).partition(" ")[0]
            if word == "NOSCRIPT":  # a new server, or its scripts were flushed
                call = script.by_source + arguments
            elif word in ("MOVED", "ASK"):
                link = self.servers.moved(error)
                asking = word == "ASK"
            else:
                break
            if asking:
                # The slot is on its way to this node, which serves it only to a command right after ASKING.
                link.send(pack(("ASKING",)), patience)
            reply = await link.send(call, patience)
            if not isinstance(reply, hiredis.HiredisError):
                return reply
            error = reply
        if "WRONGTYPE" in str(error):
            raise ForeignRecordError("its key holds something that was not written by a sidecar")
        problem = refusal(error)
        if problem.reason == "read_only":
            link.reconnect()
        if problem.reason == "cluster_down":
            self.servers.suspect()
        raise problem

    def tell(self, key: bytes, channel: bytes, message: bytes) -> None:
        """Publish ``message`` from the server that holds ``key``; nobody waits for that."""
        link = self.servers.link(key)
        if link is not None:
            with suppress(StoreError):
                packed = pack(("PUBLISH", channel, message))
                link.send(packed, _TELL_TIMEOUT)

    async def aclose(self) -> None:
        """Close all links."""
        await self.servers.aclose()
