from __future__ import annotations

import asyncio
import inspect
from contextvars import copy_context
from functools import partial

import pytest

from sidecar.calling import NotBegun, Policy, is_async


class Recorder(Policy):
    """Lets calls pass until it is told to refuse, and writes down what happens."""

    def __init__(self) -> None:
        self.log: list = []
        self.refuses = False

    def begin(self) -> int:
        if self.refuses:
            raise PermissionError("refused")
        self.log.append("begin")
        return len(self.log)

    def end(self, call: int, error: BaseException | None) -> None:
        self.log.append(type(error).__name__ if error else "end")


@pytest.fixture
def policy() -> Recorder:
    return Recorder()


async def double(number: int, *, plus: int = 0) -> int:
    """Twice as much."""
    await asyncio.sleep(0)
    return 2 * number + plus


def triple(number: int) -> int:
    return 3 * number


async def fail() -> None:
    raise KeyError("gone")


class AsyncCallable:
    async def __call__(self) -> str:
        return "called"


class TestExecute:
    async def test_an_async_function(self, policy):
        assert await policy.execute(double, 4, plus=1) == 9
        assert policy.log == ["begin", "end"]

    def test_a_plain_function(self, policy):
        assert policy.execute(triple, 4) == 12
        assert policy.log == ["begin", "end"]

    async def test_a_lambda_around_an_async_function(self, policy):
        assert await policy.execute(lambda: double(4)) == 8
        assert policy.log == ["begin", "NotBegun", "begin", "end"]

    async def test_a_lambda_that_is_refused_when_it_is_awaited(self, policy):
        pending = policy.execute(lambda: double(4))
        policy.refuses = True
        with pytest.raises(PermissionError):
            await pending

    async def test_a_lambda_that_gives_a_future(self, policy):
        future = asyncio.get_running_loop().create_future()
        future.set_result(7)
        assert await policy.execute(lambda: future) == 7

    async def test_what_nobody_awaits_is_no_call(self, policy):
        policy.execute(double, 4).close()
        assert policy.log == []

    async def test_errors_pass_through(self, policy):
        with pytest.raises(KeyError):
            await policy.execute(fail)
        with pytest.raises(ZeroDivisionError):
            policy.execute(lambda: 1 / 0)
        assert policy.log == ["begin", "KeyError", "begin", "ZeroDivisionError"]

    async def test_cancellation_is_told(self, policy):
        task = asyncio.create_task(policy.execute(asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.log == ["begin", "CancelledError"]

    async def test_a_task_cancelled_before_it_began_leaves_nothing_open(self, policy):
        task = asyncio.create_task(policy.execute(double, 4))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.log == []


class TestDecorate:
    async def test_an_async_function_stays_one(self, policy):
        guarded = policy(double)
        assert inspect.iscoroutinefunction(guarded)
        assert (guarded.__name__, guarded.__doc__) == ("double", "Twice as much.")
        assert inspect.signature(guarded) == inspect.signature(double)
        assert await guarded(4, plus=2) == 10

    def test_a_plain_function_stays_one(self, policy):
        guarded = policy(triple)
        assert not inspect.iscoroutinefunction(guarded)
        assert guarded(2) == 6

    async def test_a_method_is_bound(self, policy):
        class Client:
            factor = 5

            @policy
            async def times(self, number: int) -> int:
                return self.factor * number

        assert await Client().times(3) == 15

    async def test_generator_functions_are_refused(self, policy):
        def numbers():
            yield 1

        async def async_numbers():
            yield 1

        for function in (numbers, async_numbers):
            with pytest.raises(TypeError, match="generator function"):
                policy(function)


class TestBlocks:
    async def test_async_with(self, policy):
        async with policy as entered:
            assert entered is policy
        with pytest.raises(KeyError):
            async with policy:
                await fail()
        assert policy.log == ["begin", "end", "begin", "KeyError"]

    def test_with(self, policy):
        with policy, policy:
            assert policy.log == ["begin", "begin"]
        assert policy.log[2:] == ["end", "end"]

    def test_blocks_of_several_policies_may_interleave(self, policy):
        other = Recorder()
        policy.__enter__()
        other.__enter__()
        policy.__exit__(None, None, None)
        assert (policy.log, other.log) == (["begin", "end"], ["begin"])
        other.__exit__(None, None, None)
        assert other.log == ["begin", "end"]

    async def test_tasks_do_not_see_each_others_blocks(self, policy):
        async def work():
            async with policy:
                await asyncio.sleep(0)

        await asyncio.gather(*(work() for _ in range(5)))
        assert policy.log == ["begin"] * 5 + ["end"] * 5

    def test_a_refused_block_is_not_open(self, policy):
        policy.refuses = True
        with pytest.raises(PermissionError), policy:
            pytest.fail("not reached")
        assert policy.log == []

    def test_leaving_in_another_context_is_a_mistake(self, policy):
        copy_context().run(policy.__enter__)
        with pytest.raises(RuntimeError, match="another context"):
            policy.__exit__(None, None, None)


class TestIsAsync:
    def test_sees_through_partials_and_callable_objects(self):
        assert is_async(double)
        assert is_async(partial(partial(double, 1), plus=2))
        assert is_async(AsyncCallable())

    def test_knows_what_is_not(self):
        assert not is_async(triple)
        assert not is_async(lambda: double(1))
        assert not is_async(AsyncCallable)
        assert not is_async(len)


def test_not_begun_is_no_exception():
    assert not issubclass(NotBegun, Exception)
