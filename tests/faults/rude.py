"""Clients with bad manners: they leave at every moment, send slowly, ask for too much, and read nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tests.support.crowd import read_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_PATIENCE: Final = 4.0  # seconds; longer than the sidecar's `total`
MANNERS: Final = (
    *("polite",) * 6,
    *(
        "keyed",
        "leaves",
        "leaves-later",
        "half-closes",
        "pipelines",
        "drips",
        "breaks-off",
        "chunked",
        "tunnel",
    ),
)


class Rude:
    """A crowd of them.

    Attributes:
        told: What they got: statuses, or ``broken`` and ``gone``.
    """

    def __init__(self, port: int, random: Random) -> None:
        self.told: Counter[str] = Counter()
        self._port = port
        self._random = random
        self._number = 0

    async def work(self, clients: int, goes_on: Callable[[], bool]) -> None:
        """So many at once, each one call after another, while it goes on."""
        await asyncio.gather(*(self._client(goes_on) for _ in range(clients)))

    async def _client(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            manner = self._random.choice(MANNERS)
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._call(manner)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.told[type(error).__name__] += 1

    async def _call(self, manner: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            act = getattr(self, f"_{manner.replace('-', '_')}")
            await act(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        answer = await read_answer(reader)
        self.told[str(answer.status) if answer.status else "broken"] += 1
        return bool(answer.status)

    async def _polite(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._random.randrange(1, 6)):
            method = self._random.choice(["GET", "GET", "POST", "PUT", "DELETE"])
            body = b"x" * self._random.choice([0, 3, 2000, 100_000]) if method.startswith("P") else b""
            writer.write(_head(method, f"Content-Length: {len(body)}") + body)
            if not await self._answer(reader):
                return

    async def _keyed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._number += 1
        head = _head("POST", f"Idempotency-Key: chaos-{self._number}", "Content-Length: 3")
        writer.write(head + b"abc")
        if self._random.random() < 0.5:
            await asyncio.sleep(self._random.random() * 0.05)
            return  # and goes on without its client
        if await self._answer(reader):
            writer.write(head + b"abc")
            await self._answer(reader)

    async def _leaves(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("GET"))
        await writer.drain()
        self.told["gone"] += 1

    async def _leaves_later(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(self._random.choice(["GET", "POST"]), "Content-Length: 0"))
        await asyncio.sleep(self._random.random() * 0.3)
        self.told["gone"] += 1

    async def _half_closes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("GET"))
        writer.write_eof()
        await self._answer(reader)

    async def _pipelines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("GET") * 5)
        for _ in range(5):
            if not await self._answer(reader):
                return

    async def _drips(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("PUT", "Content-Length: 10"))
        for octet in b"0123456789":
            writer.write(bytes([octet]))
            await asyncio.sleep(self._random.random() * 0.05)
        await self._answer(reader)

    async def _breaks_off(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("POST", "Content-Length: 100000") + bytes(self._random.randrange(90_000)))
        await asyncio.sleep(self._random.random() * 0.1)
        self.told["gone"] += 1

    async def _chunked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("PUT", "Transfer-Encoding: chunked"))
        for _ in range(self._random.randrange(1, 5)):
            writer.write(b"3\r\nabc\r\n")
            await asyncio.sleep(self._random.random() * 0.02)
        writer.write(b"0\r\n\r\n")
        await self._answer(reader)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_head("GET", "Connection: Upgrade", "Upgrade: raw"))
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101"):
            self.told["101"] += 1
            writer.write(b"hello")
            with suppress(asyncio.IncompleteReadError):
                await reader.readexactly(5)
            await asyncio.sleep(self._random.random() * 0.2)


def _head(method: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} / HTTP/1.1", "Host: test", *fields, "", ""]).encode()
