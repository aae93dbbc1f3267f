"""Many keep-alive connections that have been used once and now idle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.load import BrokenAnswer, run_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load import Recipe

_OPENED_AT_ONCE = 50
_ANSWER_SECONDS = 15.0
_SETTLE_SECONDS = 1.0


class _Idler(asyncio.Protocol):
    """Sends one request, checks the answer's status, and keeps the connection."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.transport: asyncio.BaseTransport | None = None
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < self._recipe.body_bytes or self.answered.done():
            return
        self._received = b""
        complaint = self._recipe.complaint(head + b"\r\n")
        if complaint:
            self.answered.set_exception(BrokenAnswer(f"{complaint}, got {head!r}"))
        else:
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.answered.done():
            self.answered.set_exception(BrokenAnswer(f"the connection closed before its answer ({exc})"))


async def _open_one(port: int, recipe: Recipe, held: list[_Idler]) -> None:
    assert isinstance(recipe.request, bytes)
    connect = asyncio.get_running_loop().create_connection(lambda: _Idler(recipe), "127.0.0.1", port)
    transport, idler = await connect
    held.append(idler)
    transport.write(recipe.request)
    await asyncio.wait_for(idler.answered, _ANSWER_SECONDS)


async def _hold(port: int, recipe: Recipe, count: int, weigh: Callable[[], int]) -> int:
    held: list[_Idler] = []
    try:
        for first in range(0, count, _OPENED_AT_ONCE):
            batch = min(_OPENED_AT_ONCE, count - first)
            await asyncio.gather(*(_open_one(port, recipe, held) for _ in range(batch)))
        await asyncio.sleep(_SETTLE_SECONDS)
        lost = sum(1 for idler in held if idler.transport is None)
        if lost:
            raise BrokenAnswer(f"{lost} of {count} idle connections were closed")
        return weigh()
    finally:
        for idler in held:
            if idler.transport is not None:
                idler.transport.close()


def while_held(port: int, recipe: Recipe, count: int, weigh: Callable[[], int]) -> int:
    """What ``weigh`` returns while ``count`` connections to ``port`` are open and idle.

    Raises:
        BrokenAnswer: One of them got a wrong answer, or was closed.
    """
    result = run_loop(_hold(port, recipe, count, weigh))
    assert isinstance(result, int)
    return result
