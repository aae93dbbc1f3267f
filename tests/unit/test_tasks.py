import asyncio
import contextlib

from sidecar.tasks import end, heed_cancellation


async def forever():
    await asyncio.Event().wait()


async def deaf_to_the_first(losses=1):
    """A loop as one around a driver that loses a cancellation."""
    while True:
        try:
            await forever()
        except asyncio.CancelledError:
            losses -= 1
            if losses < 0:
                raise


async def test_a_task_that_loses_a_cancellation_ends_all_the_same():
    tasks = [asyncio.create_task(deaf_to_the_first(losses)) for losses in range(3)]
    await asyncio.sleep(0)
    await end(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_can_tell_that_it_lost_one():
    rounds = []

    async def heeding():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            rounds.append(1)
            heed_cancellation()

    heed_cancellation()  # nobody has cancelled this one
    task = asyncio.create_task(heeding())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(rounds) == 1


async def test_what_a_task_ended_with_is_nobodys_trouble(caplog):
    async def fail():
        try:
            await forever()
        finally:
            raise OSError("broken")

    failing, done = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0, "done"))
    await asyncio.sleep(0.001)
    await end([failing, done])
    await end([])
    assert isinstance(failing.exception(), OSError)
    assert done.result() == "done"
    del failing
    assert not caplog.records
