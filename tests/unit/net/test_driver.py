import asyncio

import pytest

from sidecar.net.driver import PARK, Driver


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
