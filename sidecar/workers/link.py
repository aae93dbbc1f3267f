"""The link between the first process and one worker: two pairs of sockets that nobody else has.

One carries messages, each behind its length. The other carries descriptors, which a stream of messages
cannot. When one of the two processes ends, however it does, the other sees the end of the stream.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH: Final = 4


class LinkLost(Exception):  # noqa: N818 - says what is the case
    """The other process has ended."""


class Link:
    """One end of a link.

    Args:
        reader: Messages of the other end.
        writer: Messages to it.
        side: For descriptors.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: socket.socket
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._side = side

    @classmethod
    async def over(cls, stream: socket.socket, side: socket.socket) -> Link:
        """The end that these two sockets are."""
        reader, writer = await asyncio.open_unix_connection(sock=stream)
        return cls(reader, writer, side)

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message and, ahead of it, descriptors. To a process that has ended, nothing is sent.

        Raises:
            LinkLost: Descriptors cannot be sent, because the other process has ended.
        """
        if descriptors:
            try:
                socket.send_fds(self._side, [b"\0"], list(descriptors))
            except OSError as error:
                raise LinkLost(str(error)) from error
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(content).to_bytes(_LENGTH, "big") + content)

    async def receive(self) -> Any:
        """The next message.

        Raises:
            LinkLost: There is none: the other process has ended.
        """
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            content = await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LinkLost(str(error)) from error
        return pickle.loads(content)  # noqa: S301 - from our own process, on a socket that nobody else has

    def take_descriptors(self, count: int) -> list[int]:
        """The ``count`` descriptors that came with the message received last; the caller closes them."""
        if not count:
            return []
        _, descriptors, _, _ = socket.recv_fds(self._side, 1, count)
        return descriptors

    async def drain(self) -> None:
        """Wait until all that was sent is on its way, and nothing would be lost with this process."""
        self._writer.transport.set_write_buffer_limits(0)
        await self._writer.drain()

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
        self._side.close()
