import asyncio

import pytest

from sidecar.driver import PARK, DirectFuture, Driver


class Story:
    """A coroutine's, told as it goes on."""

    def __init__(self):
        self.told = []
        self.crashes = []

    def drive(self, coroutine):
        driver = Driver(coroutine, self.crashes.append)
        driver.start()
        return driver

    async def park_twice(self):
        try:
            self.told.append(await PARK)
            self.told.append(await PARK)
        except BaseException as error:
            self.told.append(type(error))
            raise


@pytest.fixture
def story():
    return Story()


def test_it_runs_until_it_parks_and_goes_on_with_what_it_is_given(story):
    driver = story.drive(story.park_twice())
    assert (driver.parked, driver.done, story.told) == (True, False, [])
    driver.resume("first")
    assert story.told == ["first"]
    driver.resume("second")
    assert (driver.parked, driver.done, story.told) == (False, True, ["first", "second"])


def test_an_error_is_raised_where_it_is_parked(story):
    driver = story.drive(story.park_twice())
    driver.resume("first")
    driver.throw(KeyError("x"))
    assert story.told == ["first", KeyError]
    assert [type(crash) for crash in story.crashes] == [KeyError]
    assert driver.done


def test_nothing_happens_to_a_coroutine_that_is_not_parked(story):
    driver = story.drive(story.park_twice())
    driver.resume(1)
    driver.resume(2)
    driver.resume(3)
    driver.throw(KeyError())
    driver.cancel()
    assert (story.told, story.crashes) == ([1, 2], [])


def test_a_parked_coroutine_is_cancelled_without_being_told_of_as_a_crash(story):
    driver = story.drive(story.park_twice())
    driver.cancel()
    assert (story.told, story.crashes, driver.done) == ([asyncio.CancelledError], [], True)


class TestFutures:
    @pytest.fixture
    def future(self, loop):
        return loop.create_future()

    @pytest.fixture
    def driver(self, story, future):
        async def wait():
            try:
                story.told.append(await future)
            except BaseException as error:
                story.told.append(type(error))
                raise

        return story.drive(wait())

    def test_their_result_resumes_it(self, loop, story, future, driver):
        assert not driver.parked
        future.set_result("done")
        loop.settle()
        assert (story.told, driver.done) == (["done"], True)

    def test_their_error_is_raised_in_it(self, loop, story, future, driver):
        future.set_exception(KeyError())
        loop.settle()
        assert story.told == [KeyError]
        assert len(story.crashes) == 1

    def test_whoever_resumes_does_not_disturb_it(self, loop, story, future, driver):
        driver.resume("too early")
        driver.throw(KeyError())
        assert story.told == []

    def test_cancelling_cancels_the_future(self, loop, story, future, driver):
        driver.cancel()
        loop.settle()
        assert future.cancelled()
        assert (story.told, story.crashes, driver.done) == ([asyncio.CancelledError], [], True)

    def test_a_task_that_it_awaits_has_a_current_task_of_its_own(self, loop, story):
        async def limited():
            async with asyncio.timeout(1):
                await asyncio.sleep(5)

        async def wait():
            try:
                await loop.create_task(limited())
            except TimeoutError:
                story.told.append("timeout")

        story.drive(wait())
        loop.advance(0.9)
        assert story.told == []
        loop.advance(0.2)
        assert story.told == ["timeout"]


class TestDirectFutures:
    @pytest.fixture
    def future(self, loop):
        return DirectFuture(loop)

    @pytest.fixture
    def wait(self, story, future):
        async def wait():
            try:
                story.told.append(await future)
            except BaseException as error:
                story.told.append(type(error))
                raise

        return wait()

    def test_the_result_resumes_the_driver_in_the_same_call(self, story, future, wait):
        driver = story.drive(wait)
        assert (driver.parked, future.done()) == (False, False)
        future.set_result("reply")
        assert (story.told, driver.done) == (["reply"], True)

    def test_an_error_is_raised_in_the_driver_in_the_same_call(self, story, future, wait):
        story.drive(wait)
        future.set_exception(KeyError())
        assert story.told == [KeyError]
        assert len(story.crashes) == 1

    def test_what_is_done_already_is_not_waited_for(self, story, future, wait):
        future.set_result((1, 2))
        assert story.drive(wait).done
        assert story.told == [(1, 2)]

    def test_whoever_resumes_the_driver_does_not_disturb_it(self, story, future, wait):
        driver = story.drive(wait)
        driver.resume("too early")
        driver.throw(KeyError())
        assert story.told == []

    def test_cancelling_the_driver_cancels_it(self, story, future, wait):
        driver = story.drive(wait)
        driver.cancel()
        assert future.cancelled()
        assert (story.told, story.crashes, driver.done) == ([asyncio.CancelledError], [], True)

    def test_a_task_may_wait_for_it(self, loop, story, future, wait):
        task = loop.create_task(wait)
        loop.settle()
        future.set_result("reply")
        assert story.told == []
        loop.settle()
        assert (story.told, task.done()) == (["reply"], True)

    def test_an_error_reaches_a_task(self, loop, story, future, wait):
        task = loop.create_task(wait)
        loop.settle()
        future.set_exception(KeyError())
        loop.settle()
        assert story.told == [KeyError]
        assert isinstance(task.exception(), KeyError)

    def test_cancelling_a_task_cancels_it(self, loop, story, future, wait):
        task = loop.create_task(wait)
        loop.settle()
        task.cancel("enough")
        loop.settle()
        assert future.cancelled()
        assert story.told == [asyncio.CancelledError]

    def test_several_are_gathered(self, loop, future):
        other = DirectFuture(loop)

        async def both():
            return await asyncio.gather(future, other, return_exceptions=True)

        task = loop.create_task(both())
        loop.settle()
        other.set_exception(error := KeyError())
        future.set_result("reply")
        loop.settle()
        assert task.result() == ["reply", error]

    def test_callbacks_come_in_the_next_turn_and_can_be_taken_back(self, loop, future):
        called = []
        future.add_done_callback(called.append)
        other = [].append
        future.add_done_callback(other)
        assert future.remove_done_callback(other) == 1
        future.set_result(None)
        future.add_done_callback(called.append)
        assert called == []
        loop.settle()
        assert called == [future, future]

    def test_it_is_settled_once(self, future):
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        future.set_result(1)
        with pytest.raises(asyncio.InvalidStateError):
            future.set_result(2)
        with pytest.raises(asyncio.InvalidStateError):
            future.set_exception(KeyError())
        assert future.cancel() is False
        assert (future.result(), future.exception(), future.cancelled()) == (1, None, False)
