from __future__ import annotations

import asyncio
import threading

import pytest

from sidecar.bulkhead.decorator import Bulkhead, BulkheadStats
from sidecar.errors import BulkheadFull


class Work:
    """Calls that last until they are let go, and how many there were at once."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = self.most = 0

    async def do(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return "done"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_run_than_allowed_and_the_others_follow():
    work = Work()
    bulkhead = Bulkhead("reports", max_concurrent=3, max_queue=10, queue_timeout=60)
    tasks = [asyncio.create_task(bulkhead.execute(work.do)) for _ in range(10)]
    await settle()
    assert bulkhead.stats() == BulkheadStats(in_use=3, limit=3, waiting=7)
    assert repr(bulkhead) == "<Bulkhead reports 3/3 in use, 7 waiting>"
    work.gate.set()
    assert await asyncio.gather(*tasks) == ["done"] * 10
    assert work.most == 3
    assert bulkhead.stats() == BulkheadStats(in_use=0, limit=3, waiting=0)


async def test_a_full_queue_and_a_long_wait_are_refused():
    work = Work()
    bulkhead = Bulkhead(max_concurrent=1, max_queue=1, queue_timeout=0)
    first = asyncio.create_task(bulkhead.execute(work.do))
    await settle()
    with pytest.raises(BulkheadFull) as refused:
        await bulkhead.execute(work.do)
    assert refused.value.reason == "queue_timeout"
    none_waits = Bulkhead(max_concurrent=1, max_queue=0)
    async with none_waits:
        with pytest.raises(BulkheadFull) as refused:
            await none_waits.execute(work.do)
    assert refused.value.reason == "queue_full"
    work.gate.set()
    await first


async def test_plain_calls_do_not_wait():
    bulkhead = Bulkhead("reports", max_concurrent=1)
    with bulkhead, pytest.raises(BulkheadFull, match="Bulkhead reports has all its 1 calls"):
        bulkhead.execute(len, "x")
    assert bulkhead(len)("abc") == 3


async def test_failures_and_cancellations_free_the_permit():
    work = Work()
    bulkhead = Bulkhead(max_concurrent=1, max_queue=5, queue_timeout=60)
    with pytest.raises(ZeroDivisionError):
        bulkhead.execute(divmod, 1, 0)
    tasks = [asyncio.create_task(bulkhead.execute(work.do)) for _ in range(3)]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    work.gate.set()
    await asyncio.wait(tasks)
    assert tasks[2].result() == "done"
    assert bulkhead.stats().in_use == 0


async def test_a_permit_for_a_loop_that_is_gone_goes_on():
    bulkhead = Bulkhead(max_concurrent=1, max_queue=5, queue_timeout=60)
    bulkhead.begin()
    abandoned = asyncio.new_event_loop()
    bulkhead._permits.enqueue(abandoned.create_future(), 1.0)
    abandoned.close()
    task = asyncio.create_task(bulkhead.begin_async())
    await settle()
    bulkhead.end(None, None)
    await task
    assert bulkhead.stats() == BulkheadStats(in_use=1, limit=1, waiting=0)


def test_threads_with_loops_of_their_own_share_it():
    bulkhead = Bulkhead(max_concurrent=2, max_queue=1000, queue_timeout=60)
    running = 0
    most = 0
    count = threading.Lock()

    async def work() -> None:
        nonlocal running, most
        with count:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0)
        with count:
            running -= 1

    async def main() -> None:
        await asyncio.gather(*(bulkhead.execute(work) for _ in range(100)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    assert bulkhead.stats() == BulkheadStats(in_use=0, limit=2, waiting=0)


def test_values_are_checked():
    with pytest.raises(ValueError, match="queue_timeout"):
        Bulkhead(queue_timeout=-1)
    with pytest.raises(ValueError, match="permits"):
        Bulkhead(max_concurrent=0)
