"""An upstream with moods: most of what can go wrong with an answer, drawn at random, on one event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SSE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
_LARGE: Final = 300_000

# What is sent, and whether the connection is closed behind it.
_ANSWERS: Final = {
    "ok": (OK, False),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
    "large": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (_LARGE, bytes(_LARGE)), False),
    "until-close": (b"HTTP/1.1 200 OK\r\n\r\nok", True),
    "ok-and-gone": (OK, True),
    "503": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", False),
    "429": (b"HTTP/1.1 429 Slow Down\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", False),
    "500": (b"HTTP/1.1 500 Broken\r\nContent-Length: 4\r\n\r\noops", False),
    "nothing": (b"", True),
    "half-a-head": (b"HTTP/1.1 200 OK\r\nContent-Le", True),
    "half-a-body": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", True),
    "half-a-chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", True),
    "nonsense": (b"SSH-2.0-OpenSSH_9.6\r\n", False),
    "bad-chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", False),
    "surplus": (OK + b"HTTP/1.1 200 OK\r\n", False),
    "unasked-switch": (_SWITCH, False),
}
GOOD: Final = ("ok", "chunked", "large", "until-close", "ok-and-gone", "stream")
_SLOW: Final = ("hang", "hang-in-body", "stream")
MOODS: Final = (*_ANSWERS, *_SLOW)


class Moody:
    """Answers by its mood, and hangs up, comes back and resets everything in between.

    Attributes:
        seen: Requests by what was done with them.
        connections: Those that are open.
        mood: Chooses what is done with a request.
    """

    def __init__(self, random: Random) -> None:
        self.seen: Counter[str] = Counter()
        self.connections: set[asyncio.StreamWriter] = set()
        self.mood: Callable[[], str] = lambda: "ok"
        self._random = random
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        self.reset_all()
        while self.connections:  # noqa: ASYNC110 - a set that empties itself
            await asyncio.sleep(0.01)

    async def open(self) -> None:
        """Listen, on the port of the last time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Listen no more; what is open stays open."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset_all(self) -> None:
        """Abort every connection, idle ones too."""
        for writer in list(self.connections):
            _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.connections.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        mood = self.mood()
        if mood == "nothing" and self._random.random() < 0.5:
            self.seen["reset"] += 1
            _abort(writer)
            return False
        await _read_body(head.lower(), reader)
        if b"\r\nupgrade: raw" in head.lower() and mood in GOOD:
            self.seen["tunnel"] += 1
            return await _echo(reader, writer)
        self.seen[mood] += 1
        if mood in _SLOW:
            return await getattr(self, f"_{mood.replace('-', '_')}")(reader, writer)
        answer, closes = _ANSWERS[mood]
        if head.startswith(b"HEAD "):
            answer = answer[: answer.find(b"\r\n\r\n") + 4] or answer
        await asyncio.sleep(self._random.random() * 0.02)
        for start in range(0, len(answer), 20_000):
            writer.write(answer[start : start + 20_000])
            await writer.drain()
        return not closes

    async def _hang(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> bool:
        await reader.read(1)  # until the sidecar gives up
        return False

    async def _hang_in_body(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        return await self._hang(reader, writer)

    async def _stream(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(_SSE)
        for _ in range(self._random.randrange(8)):
            writer.write(b"9\r\ndata: x\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")
        return True


async def _read_body(head: bytes, reader: asyncio.StreamReader) -> None:
    if b"\r\ntransfer-encoding: chunked" in head:
        await reader.readuntil(b"0\r\n\r\n")
    else:
        _, _, rest = head.partition(b"\r\ncontent-length: ")
        await reader.readexactly(int(rest.partition(b"\r\n")[0] or 0))


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(_SWITCH)
    while data := await reader.read(1000):
        writer.write(data)
    return False


def _abort(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
