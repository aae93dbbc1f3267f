"""Waiting on a real loop whose clock stands still: time passes only where a test fires a timer."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.bulkhead.core import Permits
from sidecar.bulkhead.waiting import acquire, wake
from sidecar.errors import BulkheadFull


@pytest.fixture
def permits() -> Permits:
    permits = Permits(1, 2, grant=wake)
    assert permits.try_acquire()
    return permits


async def start(permits: Permits, seconds: float = 60) -> asyncio.Task:
    task = asyncio.create_task(acquire(permits, seconds))
    await asyncio.sleep(0)
    return task


async def test_a_waiter_gets_the_released_permit(permits):
    task = await start(permits)
    assert permits.waiting == 1
    permits.release()
    await task
    assert (permits.in_use, permits.waiting) == (1, 0)


async def test_a_full_queue_refuses_at_once(permits):
    first, second = await start(permits), await start(permits)
    with pytest.raises(BulkheadFull) as refused:
        await acquire(permits, 60)
    assert (refused.value.reason, refused.value.retry_after) == ("queue_full", 1.0)
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])


async def test_the_time_runs_out(permits):
    with pytest.raises(BulkheadFull) as refused:
        await acquire(permits, 0)
    assert refused.value.reason == "queue_timeout"
    permits.release()
    assert (permits.in_use, permits.waiting) == (0, 0)


async def test_a_permit_granted_in_the_turn_in_which_the_time_ran_out_is_used(permits):
    task = asyncio.create_task(acquire(permits, 0))
    await asyncio.sleep(0)
    (waiter,) = permits._queue
    wake(waiter)  # the timer
    permits.release()
    await task
    assert permits.in_use == 1


async def test_a_cancelled_waiter_leaves_the_queue(permits):
    task = await start(permits)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert permits.waiting == 0
    permits.release()
    assert permits.in_use == 0


async def test_a_waiter_cancelled_after_it_was_granted_gives_the_permit_on(permits):
    first, second = await start(permits), await start(permits)
    permits.release()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (permits.in_use, permits.waiting) == (1, 0)


async def test_a_waiter_cancelled_before_it_was_granted_gives_the_permit_on(permits):
    first, second = await start(permits), await start(permits)
    first.cancel()
    permits.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (permits.in_use, permits.waiting) == (1, 0)


async def test_a_waiter_cancelled_when_the_time_ran_out_gives_nothing_back(permits):
    task = await start(permits)
    (waiter,) = permits._queue
    wake(waiter)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (permits.in_use, permits.waiting) == (1, 0)


async def test_no_timer_is_left_behind(permits):
    task = await start(permits, 3600)
    permits.release()
    await task
    timers = [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]
    assert timers == []
