"""A TCP wire between a client and a server that can be cut, held up, or made to lose replies."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wire:
    """Forwards to ``port`` on loopback.

    Attributes:
        lose_reply: Cut the connection instead of passing on the next reply.
        connections: How many were made.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.lose_reply = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.connections = 0
        self.port = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def silent(self) -> bool:
        """Pass nothing on, either way."""
        return not self._flowing.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        (self._flowing.clear if silent else self._flowing.set)()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections and cut those that there are."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink, is_reply in ((reader, far_writer, False), (far_reader, writer, True)):
            pump = asyncio.create_task(self._pump(source, sink, is_reply=is_reply))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                if is_reply and self.lose_reply:
                    self.lose_reply = False
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)
        if is_reply:
            self.cut()
