"""One connection to Redis: commands go out together, replies come back in order.

The commands that all requests give in one turn of the event loop are packed by hiredis onto one write. A
reply belongs to the oldest unanswered command, whether or not anybody still waits for it: a waiter that was
cancelled must not shift the replies of the others.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis

from sidecar.driver import DirectFuture

if TYPE_CHECKING:
    from collections.abc import Callable

Argument = bytes | str | int
Reply = Any

_NOTHING: Final = object()
_KEEPALIVE_IDLE: Final = 30  # seconds before the kernel asks whether a silent peer is still there


def pack(arguments: tuple[Argument, ...]) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]
    return packed


class Command(DirectFuture):
    """A command that waits to be sent or answered; await it for the reply (an error reply as a result too).

    Args:
        packed: As it goes over the wire.
        deadline: When nobody waits any more, in seconds of the loop's clock.
        loop: The running loop.

    Attributes:
        sent: Whether it was on its way when a connection broke, so that it may have been carried out.
    """

    __slots__ = ("deadline", "packed", "sent")

    def __init__(self, packed: bytes, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.packed = packed
        self.deadline = deadline
        self.sent = False


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    Args:
        loop: The running loop.
        on_lost: Called once with the connection when it is gone; ``unanswered`` then says what it left
        behind.
        on_push: Called with each message of a subscription.

    Attributes:
        unanswered: Commands in the order in which they were given.
    """

    __slots__ = (
        "_flushing",
        "_loop",
        "_on_lost",
        "_on_push",
        "_outbox",
        "_parser",
        "_transport",
        "unanswered",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Connection], None],
        on_push: Callable[[list[Reply]], None] | None = None,
    ) -> None:
        self.unanswered: deque[Command] = deque()
        self._loop = loop
        self._on_lost = on_lost
        self._on_push = on_push
        self._outbox: list[bytes] = []
        self._flushing = False
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None

    def give(self, command: Command) -> None:
        """Send ``command`` with all others of this turn of the loop."""
        self.unanswered.append(command)
        self._outbox.append(command.packed)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def ask(self, *arguments: Argument) -> Reply:
        """Send one command and wait for its reply, without a deadline.

        Raises:
            hiredis.ReplyError: The server says no.
            ConnectionError: The connection is gone.
        """
        command = Command(pack(arguments), float("inf"), self._loop)
        self.give(command)
        reply = await command
        if isinstance(reply, hiredis.HiredisError):
            raise reply
        return reply

    def abort(self) -> None:
        """Close at once; ``on_lost`` follows."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        parser, unanswered = self._parser, self.unanswered
        parser.feed(data)
        try:
            while (reply := parser.gets()) is not _NOTHING:
                if self._on_push is not None and _is_message(reply):
                    self._on_push(reply)
                    continue
                command = unanswered.popleft()
                if not command.done():
                    command.set_result(reply)  # who waits for it goes on now, and may give further commands
        except (hiredis.ProtocolError, IndexError):
            # Not Redis, or replies that nobody asked for: no later reply could be trusted.
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what matters is what is left
        """See :class:`asyncio.Protocol`."""
        self._transport = None
        self._on_lost(self)

    def _flush(self) -> None:
        self._flushing = False
        outbox, self._outbox = self._outbox, []
        if self._transport is not None:
            self._transport.write(outbox[0] if len(outbox) == 1 else b"".join(outbox))


def _is_message(reply: Reply) -> bool:
    return isinstance(reply, list) and bool(reply) and reply[0] == b"message"
