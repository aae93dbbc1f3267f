"""Waiting for a permit on the event loop: a future and a timer, and only for those who must wait.

::

    if not permits.try_acquire():
        await acquire(permits, timeout=0.1)
    try:
        ...
    finally:
        permits.release()
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from sidecar.errors import BulkheadFull

if TYPE_CHECKING:
    from sidecar.bulkhead.core import Permits

Waiter: TypeAlias = "asyncio.Future[None]"

RETRY_AFTER = 1.0
"""Seconds after which those who found the bulkhead full may come back."""


def wake(waiter: Waiter) -> None:
    """Let a waiter see whether it has got its permit: what :class:`Permits` take as ``grant``."""
    if not waiter.done():
        waiter.set_result(None)


async def acquire(
    permits: Permits[Waiter],
    timeout: float,  # noqa: ASYNC109 - not asyncio.timeout's 4 µs
    waiter: Waiter | None = None,
) -> None:
    """Wait up to ``timeout`` seconds for a permit, after ``try_acquire`` has found none.

    Only the waiting coroutine takes its waiter out of the queue; grant and timer merely wake it. So whether
    it holds a permit is decided in one place, also when it was cancelled in the same turn of the loop in
    which it was granted.

    Args:
        permits: Whose.
        timeout: In seconds.
        waiter: What is awaited, for those who want to cancel it.

    Raises:
        BulkheadFull: The queue is full, or the time is up; ``reason`` says which.
    """
    loop = asyncio.get_running_loop()
    if waiter is None:
        waiter = loop.create_future()
    if not permits.enqueue(waiter, loop.time()):
        raise _full("queue_full")
    timer = loop.call_later(timeout, wake, waiter)
    try:
        await waiter
    except BaseException:
        if not permits.withdraw(waiter):
            permits.release()
        raise
    finally:
        timer.cancel()
    if permits.withdraw(waiter):
        raise _full("queue_timeout")


def _full(reason: str) -> BulkheadFull:
    return BulkheadFull(
        "The upstream has as many requests as it may have", reason=reason, retry_after=RETRY_AFTER
    )
