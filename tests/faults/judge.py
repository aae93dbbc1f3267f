"""A counting upstream, and a crowd of clients that do not give up: what was executed, what was told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOODS = ("ok",) * 12 + ("reset", "truncate", "hang", "late")
"""What the upstream does with a request, most often the right thing."""

_HANG = 2.0  # seconds; longer than the sidecar waits
_ENOUGH = 40  # tries of one key; only a sidecar that never comes back needs so many


class Judge:
    """Counts executions by key, and answers each with its number.

    Attributes:
        executions: How often each key reached the upstream.
    """

    def __init__(self) -> None:
        self.executions: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                await writer.drain()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        key = fields["idempotency-key"]
        self.executions[key] += 1
        mood = head.split()[1].rpartition("/")[2]
        body = f"{key} {self.executions[key]}".encode()
        answer = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if mood == "reset":
            return False
        if mood == "truncate":
            writer.write(answer[:-3])
            await writer.drain()
            return False
        await asyncio.sleep({"hang": _HANG, "late": 0.3}.get(mood, 0))
        writer.write(answer)
        return True


class Crowd:
    """Clients that each see one key through, taking turns between the sidecars.

    Attributes:
        answers: Bodies that clients were given, by key.
        ends: How the keys ended: ``settled``, ``unknown``, or ``open``.
        told: Every status and code that any client was told.
    """

    def __init__(self, ports: Sequence[int], seed: int = 1) -> None:
        self.answers: defaultdict[str, set[bytes]] = defaultdict(set)
        self.ends: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self._ports = ports
        self._random = random.Random(seed)
        self._last = 0

    async def work(self, clients: int, goes_on: Callable[[], bool]) -> None:
        """Start one key after another with so many clients at once, while it goes on."""
        await asyncio.gather(*(self._client(goes_on) for _ in range(clients)))

    async def _client(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            self._last += 1
            key = f"key-{self._last}"
            self.ends[await self._see_through(key, self._random.choice(MOODS))] += 1

    async def _see_through(self, key: str, mood: str) -> str:
        answered = 0
        for number in range(_ENOUGH):
            port = self._ports[(self._last + number) % len(self._ports)]
            word = await self._ask(port, key, mood)
            self.told[word] += 1
            if word == "answered":
                answered += 1
                if answered > 1:
                    return "settled"
            elif "outcome_unknown" in word:
                return "unknown"
            else:
                await asyncio.sleep(0.05)
        return "open"

    async def _ask(self, port: int, key: str, mood: str) -> str:
        """One request on a connection of its own; what came of it, in a word."""
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(
                        f"POST /orders/{mood} HTTP/1.1\r\nHost: test\r\nIdempotency-Key: {key}\r\n"
                        "Connection: close\r\nContent-Length: 5\r\n\r\norder".encode()
                    )
                    answer = await reader.read(-1)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return "broken"
        head, _, body = answer.partition(b"\r\n\r\n")
        if head[9:12] == b"201":
            self.answers[key].add(body)
            return "answered"
        lines = head.decode().lower().split("\r\n")
        return next((line for line in lines if line.startswith("x-sidecar-reason")), "broken")
