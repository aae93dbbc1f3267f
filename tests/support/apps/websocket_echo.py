"""Sends every message back: ``websocket_echo.py PORT``."""

import asyncio
import signal
import sys
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def first_offered(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


async def main(port: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(echo, "127.0.0.1", port, max_size=None, select_subprotocol=first_offered):
        await stopped.wait()


asyncio.run(main(int(sys.argv[1])))
