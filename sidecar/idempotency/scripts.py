"""Runs Lua scripts where their key is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING

import hiredis

from sidecar.idempotency.cluster import Cluster
from sidecar.idempotency.core import ForeignRecordError
from sidecar.idempotency.link import Link, refusal
from sidecar.idempotency.single import Single
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.idempotency.address import RedisAddress
    from sidecar.idempotency.connection import Argument, Reply

_MOST_REDIRECTIONS = 5
_ONE_KEY = b"1"
_NO_KEY = b"0"
_TELL_TIMEOUT = 1.0


class Script:
    """A Lua script in the ``lua`` folder, and its name on the server."""

    __slots__ = ("name", "source")

    def __init__(self, name: str) -> None:
        self.source = files("sidecar.idempotency").joinpath("lua", f"{name}.lua").read_bytes()
        self.name = sha1(self.source, usedforsecurity=False).hexdigest().encode()


class ScriptRunner:
    """Sends scripts to the servers that an address names; has to be made in a running loop."""

    def __init__(self, address: RedisAddress) -> None:
        self.servers: Single | Cluster = (
            Cluster(address) if address.topology == "cluster" else Single(address)
        )

    async def run(
        self, script: Script, key: bytes, arguments: tuple[Argument, ...], patience: float
    ) -> Reply:
        """The script's reply.

        Raises:
            StoreError: The server cannot be used.
            ForeignRecordError: ``key`` holds something that is no string.
        """
        link = self.servers.link(key) or await self.servers.find(key)
        try:
            reply = await link.call((b"EVALSHA", script.name, _ONE_KEY, key, *arguments), patience)
        except StoreError:
            self.servers.suspect()
            raise
        if isinstance(reply, hiredis.HiredisError):
            return await self._insist(reply, link, script, (_ONE_KEY, key, *arguments), patience)
        return reply

    async def run_all(
        self, script: Script, calls: Sequence[tuple[bytes, tuple[Argument, ...]]], patience: float
    ) -> list[Reply]:
        """The replies to several calls that go out together.

        Raises:
            StoreError: A server cannot be used. Some of the calls may have been carried out.
        """
        links = [self.servers.link(key) or await self.servers.find(key) for key, _ in calls]
        futures = [
            link.call((b"EVALSHA", script.name, _ONE_KEY, key, *arguments), patience)
            for link, (key, arguments) in zip(links, calls, strict=True)
        ]
        replies = await asyncio.gather(*futures, return_exceptions=True)
        for index, reply in enumerate(replies):
            if isinstance(reply, hiredis.HiredisError):
                key, arguments = calls[index]
                replies[index] = await self._insist(
                    reply, links[index], script, (_ONE_KEY, key, *arguments), patience
                )
            elif isinstance(reply, BaseException):
                self.servers.suspect()
                raise reply
        return replies

    async def run_without_key(
        self, script: Script, link: Link, arguments: tuple[Argument, ...], patience: float
    ) -> Reply:
        """The reply of one server to a script that looks at keys of its own choice."""
        reply = await link.call((b"EVALSHA", script.name, _NO_KEY, *arguments), patience)
        if isinstance(reply, hiredis.HiredisError):
            return await self._insist(reply, link, script, (_NO_KEY, *arguments), patience)
        return reply

    def tell(self, key: bytes, channel: bytes, message: str) -> None:
        """Publish ``message`` from the server that holds ``key``; nobody waits for that."""
        link = self.servers.link(key)
        if link is not None:
            with suppress(StoreError):
                link.call((b"PUBLISH", channel, message), _TELL_TIMEOUT).add_done_callback(_forget)

    async def aclose(self) -> None:
        """Close all links."""
        await self.servers.aclose()

    async def _insist(
        self,
        error: hiredis.HiredisError,
        link: Link,
        script: Script,
        arguments: tuple[Argument, ...],
        patience: float,
    ) -> Reply:
        """Do what an error reply asks for, as often as it is reasonable."""
        for _ in range(_MOST_REDIRECTIONS):
            word = str(error).partition(" ")[0]
            command: tuple[Argument, ...] = (b"EVALSHA", script.name, *arguments)
            if word == "NOSCRIPT":
                # A new server, or its scripts were flushed. EVAL also makes it remember the script.
                command = (b"EVAL", script.source, *arguments)
            elif word in ("MOVED", "ASK"):
                link = self.servers.moved(error)
                if word == "ASK":
                    link.call((b"ASKING",), patience).add_done_callback(_forget)
            else:
                raise self._problem(error, link)
            reply = await link.call(command, patience)
            if not isinstance(reply, hiredis.HiredisError):
                return reply
            error = reply
        raise self._problem(error, link)

    def _problem(self, error: hiredis.HiredisError, link: Link) -> StoreError | ForeignRecordError:
        if "WRONGTYPE" in str(error):
            return ForeignRecordError("its key holds something that was not written by a sidecar")
        problem = refusal(error)
        if problem.reason == "read_only":
            link.reconnect()
        if problem.reason == "cluster_down":
            self.servers.suspect()
        return problem


def _forget(answer: asyncio.Future[Reply]) -> None:
    """Nobody is interested in how this command ends."""
    if not answer.cancelled():
        answer.exception()
