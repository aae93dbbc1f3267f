"""Ending tasks, for certain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_AGAIN: Final = 0.1
"""Seconds that a task has to end before it is told once more; ones that clean up need but a moment."""


def heed_cancellation() -> None:
    """End the current task if it was told to, although nothing was raised in it: see :func:`end`.

    Raises:
        asyncio.CancelledError: It was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and return when all of them have ended, whatever they ended with.

    Once is not enough. Before Python 3.12, ``asyncio.wait_for`` drops a cancellation that comes in the moment
    in which what it waits for is done, and redis-py and asyncpg send every command through it. A loop that
    such a cancellation was meant for goes on, and whoever waits for its end waits for ever. One that is never
    idle may miss many in a row: it had better call :func:`heed_cancellation` in each round.
    """
    told = set(tasks)
    late = told
    while late:
        for task in late:
            task.cancel()
        _done, late = await asyncio.wait(late, timeout=_AGAIN)
    for task in told:
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not complain of it
