import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.net.deadlines import NEVER, TICK, Deadlines
from tests.support.manual_loop import ManualLoop


class Item:
    """Has a deadline, as connections and exchanges do."""

    def __init__(self, loop, deadlines):
        self._loop = loop
        self._deadlines = deadlines
        self.deadline = NEVER
        self.looked_at = NEVER
        self.expired = []
        self.next_wait = NEVER

    def arm(self, seconds):
        self.deadline = self._loop.time() + seconds
        if self.deadline < self.looked_at:
            self._deadlines.watch(self)

    def expire(self, now):
        self.expired.append(now)
        self.deadline = now + self.next_wait


@pytest.fixture
def deadlines(loop):
    return Deadlines(loop)


@pytest.fixture
def item(loop, deadlines):
    return Item(loop, deadlines)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.02, 0.05, 0.99, 1.0, 3.7, 60.0])
def test_a_deadline_is_noticed_never_early_and_hardly_late(loop, item, seconds):
    item.arm(seconds)
    due = loop.time() + seconds
    loop.advance(seconds)
    assert all(at >= due for at in item.expired)
    loop.advance(3 * TICK)
    assert len(item.expired) == 1
    loop.advance(10)
    assert len(item.expired) == 1


def test_a_deadline_that_moves_on_with_every_request_costs_no_look_before_its_time(loop, item):
    for _ in range(100):
        item.arm(0.5)
        loop.advance(0.25)
    assert item.expired == []
    loop.advance(0.3)
    assert len(item.expired) == 1


def test_a_deadline_may_come_closer(loop, item):
    item.arm(30)
    loop.advance(0.1)
    item.arm(0.2)
    loop.advance(0.25)
    assert len(item.expired) == 1


def test_none_at_all(loop, item):
    item.arm(0.5)
    item.deadline = NEVER
    loop.advance(5)
    assert item.expired == []
    item.arm(0.5)
    loop.advance(0.6)
    assert len(item.expired) == 1


def test_what_expires_may_have_another_deadline(loop, item):
    item.next_wait = 1.0
    item.arm(1.0)
    loop.advance(3.2)
    assert len(item.expired) == 3


def test_nothing_is_swept_when_nothing_has_a_deadline(loop, item):
    item.arm(0.1)
    loop.advance(2)
    assert loop._scheduled == []


def test_a_sweep_that_comes_late_leaves_nothing_out(loop, deadlines):
    items = [Item(loop, deadlines) for _ in range(50)]
    for number, item in enumerate(items):
        item.arm(0.1 * number)
    loop._now += 20  # the loop was blocked
    loop.advance(0.1)
    assert [len(item.expired) for item in items] == [1] * 50


def test_closed(loop, deadlines, item):
    item.arm(0.1)
    deadlines.close()
    deadlines.close()
    loop.advance(1)
    assert item.expired == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 4), st.floats(0, 1.5)), max_size=30))
def test_whatever_moves_when(moves):
    """Each item expires at its deadline, unless that has moved meanwhile; one sweep serves them all."""
    with ManualLoop() as loop:
        deadlines = Deadlines(loop)
        items = [Item(loop, deadlines) for _ in range(3)]
        for which, seconds, pause in moves:
            before = [(item.deadline, len(item.expired)) for item in items]
            items[which].arm(seconds)
            before[which] = (items[which].deadline, before[which][1])
            loop.advance(pause)
            for item, (deadline, count) in zip(items, before, strict=True):
                if deadline > loop.time():
                    assert len(item.expired) == count
                elif deadline < loop.time() - 3 * TICK:
                    assert len(item.expired) == count + 1


def late_sweep(loop, seconds):
    """The loop was busy: its time has moved on before it could look at any timer."""
    loop._now += seconds
    loop.advance(0)


def test_a_deadline_that_has_passed_when_it_is_set_is_noticed(loop, deadlines, item):
    loop.advance(1.005)  # nothing is watched, and nobody has swept
    item.arm(-0.1)
    loop.advance(2 * TICK)
    assert len(item.expired) == 1


@pytest.mark.parametrize("behind", [0.01, 0.05, 0.3, 3.0])
def test_so_it_is_if_it_is_set_while_another_one_that_has_passed_is_looked_at(loop, item, behind):
    item.arm(0.1)
    item.next_wait = -behind
    late_sweep(loop, 0.5)
    assert len(item.expired) == 1
    item.next_wait = NEVER
    loop.advance(2 * TICK)
    assert len(item.expired) == 2
    item.arm(0.1)
    loop.advance(0.2)
    assert len(item.expired) == 3


def test_a_fault_with_one_is_told_and_hurts_no_other(loop, deadlines):
    class Broken(Item):
        def expire(self, now):
            super().expire(now)
            raise ValueError("bug")

    items = [Item(loop, deadlines), Broken(loop, deadlines), Item(loop, deadlines)]
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    for _ in range(2):
        for item in items:
            item.arm(0.1)
        loop.advance(0.2)
    assert [len(item.expired) for item in items] == [2, 2, 2]
    assert [str(error) for error in told] == ["bug", "bug"]
