"""Server-sent events: bounded in number, and ended by a shutdown instead of holding it up."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import orjson
from aiohttp import web

from sidecar.errors import TooManyViewers

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_STREAMS: Final = 16
"""Streams that may be open at once."""

_STALLED_SECONDS: Final = 30.0


class Streams:
    """The streams that an application has open."""

    def __init__(self) -> None:
        self.open = 0
        self._closing = asyncio.Event()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Be one of the streams.

        Raises:
            TooManyViewers: There are as many as there may be.
        """
        if self.open >= MOST_STREAMS:
            raise TooManyViewers(f"{MOST_STREAMS} streams are open: close one of them", retry_after=1.0)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def pause(self, seconds: float) -> bool:
        """Wait; whether to go on afterwards, or the port is closing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return not self._closing.is_set()

    async def close(self, _: web.Application) -> None:
        """End them all."""
        self._closing.set()


STREAMS = web.AppKey("STREAMS", Streams)


class EventStream:
    """One stream to one client."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        # A proxy that gathers the events would defeat their purpose; this is nginx's word for that.
        fields = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        self.response = web.StreamResponse(headers=fields)

    async def begin(self) -> None:
        """Send the head."""
        await self.response.prepare(self._request)

    async def send(self, content: object, *, event: str = "") -> None:
        """Send an event.

        Raises:
            ConnectionError: The client is gone, or has not read anything for half a minute.
        """
        name = f"event: {event}\n".encode() if event else b""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                await self.response.write(b"%bdata: %b\n\n" % (name, orjson.dumps(content)))
        except TimeoutError:
            raise ConnectionResetError("the client does not read its events") from None
