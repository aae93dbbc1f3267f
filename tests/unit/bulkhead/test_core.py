from __future__ import annotations

from contextlib import nullcontext

import pytest

from sidecar.bulkhead.core import COMMON_CELLS, OWN_CELLS, Permits
from sidecar.scoreboard.row import Row


@pytest.fixture
def granted() -> list[str]:
    return []


class TestAlone:
    def test_no_more_than_the_limit(self, granted):
        permits = Permits(2, 0, grant=granted.append)
        assert [permits.try_acquire() for _ in range(3)] == [True, True, False]
        permits.release()
        assert permits.try_acquire()
        assert permits.in_use == 2

    def test_a_released_permit_goes_to_the_first_waiter(self, granted):
        permits = Permits(1, 2, grant=granted.append)
        permits.try_acquire()
        assert permits.enqueue("first", 1.0)
        assert permits.enqueue("second", 2.0)
        assert not permits.enqueue("third", 3.0)
        assert (permits.waiting, permits.in_use) == (2, 1)
        permits.release()
        assert granted == ["first"]
        assert not permits.try_acquire()
        permits.release()
        permits.release()
        assert granted == ["first", "second"]
        assert (permits.waiting, permits.in_use) == (0, 0)

    def test_a_waiter_that_leaves_lets_the_next_one_through(self, granted):
        permits = Permits(1, 2, grant=granted.append)
        permits.try_acquire()
        permits.enqueue("first", 1.0)
        permits.enqueue("second", 2.0)
        assert permits.withdraw("first")
        permits.release()
        assert granted == ["second"]

    def test_a_waiter_that_was_granted_can_no_longer_withdraw(self, granted):
        permits = Permits(1, 1, grant=granted.append)
        permits.try_acquire()
        permits.enqueue("first", 1.0)
        permits.release()
        assert not permits.withdraw("first")
        assert permits.in_use == 1
        permits.release()
        assert permits.try_acquire()

    def test_one_who_waits_although_a_permit_is_free_gets_it(self, granted):
        permits = Permits(1, 1, grant=granted.append)
        assert permits.enqueue("first", 1.0)
        assert granted == ["first"]

    def test_a_higher_limit_lets_waiters_through(self, granted):
        permits = Permits(1, 5, grant=granted.append)
        permits.try_acquire()
        for waiter in "abc":
            permits.enqueue(waiter, 1.0)
        permits.resize(3)
        assert granted == ["a", "b"]
        assert permits.limit == 3

    def test_a_lower_limit_takes_nothing_away(self, granted):
        permits = Permits(3, 5, grant=granted.append)
        for _ in range(3):
            permits.try_acquire()
        permits.enqueue("a", 1.0)
        permits.resize(1, 1)
        assert not permits.enqueue("b", 1.0)
        permits.release()
        permits.release()
        assert (granted, permits.in_use) == ([], 1)
        permits.release()
        assert granted == ["a"]

    def test_a_stream_holds_no_permit_and_is_counted(self, granted):
        permits = Permits(1, 1, grant=granted.append)
        permits.try_acquire()
        permits.enqueue("next", 1.0)
        permits.begin_stream()
        assert granted == ["next"]
        assert (permits.in_use, permits.streams) == (1, 1)
        permits.end_stream()
        assert permits.streams == 0

    @pytest.mark.parametrize("bounds", [(0, 0), (1, -1)])
    def test_bounds_are_checked(self, bounds, granted):
        with pytest.raises(ValueError, match="permits from 1"):
            Permits(*bounds, grant=granted.append)
        with pytest.raises(ValueError, match="permits from 1"):
            Permits(1, 1, grant=granted.append).resize(*bounds)

    def test_repr_tells(self, granted):
        permits = Permits(2, 0, grant=granted.append)
        permits.try_acquire()
        assert repr(permits) == "<Permits 1/2 in use, 0 waiting, 0 streams>"


class Workers:
    """Several workers' permits on one row; rings are kept until they are answered."""

    def __init__(self, count: int, limit: int, queue: int = 10) -> None:
        cells = [0] * (COMMON_CELLS + count * OWN_CELLS)
        everyone = tuple(range(COMMON_CELLS, len(cells), OWN_CELLS))
        self.granted: list[str] = []
        self.rung: list[int] = []
        self.permits = [
            Permits(
                limit,
                queue,
                grant=self.granted.append,
                row=Row(cells, lock=nullcontext(), mine=mine, everyone=everyone),
                ring=self.rung.append,
            )
            for mine in everyone
        ]

    def answer(self) -> None:
        while self.rung:
            self.permits[self.rung.pop(0)].hand_out()


class TestAmongWorkers:
    def test_the_limit_holds_for_all_together(self):
        workers = Workers(3, limit=5)
        taken = [permits.try_acquire() for permits in workers.permits * 3]
        assert taken == [True] * 5 + [False] * 4
        assert [permits.in_use for permits in workers.permits] == [5, 5, 5]

    def test_far_from_the_limit_no_lock_is_taken(self):
        workers = Workers(2, limit=10)
        first = workers.permits[0]
        first.row.lock = None  # to enter it would raise
        assert all(first.try_acquire() for _ in range(8))
        with pytest.raises(TypeError):
            first.try_acquire()

    def test_a_permit_goes_to_the_worker_that_has_waited_longest(self):
        workers = Workers(2, limit=1)
        first, second = workers.permits
        first.try_acquire()
        second.enqueue("second's", 1.0)
        first.enqueue("first's", 2.0)
        first.release()
        assert workers.granted == []
        assert workers.rung == [1]
        workers.answer()
        assert workers.granted == ["second's"]
        second.release()
        workers.answer()
        assert workers.granted == ["second's", "first's"]

    def test_newcomers_do_not_overtake_a_waiter_that_is_being_woken(self):
        workers = Workers(2, limit=1)
        first, second = workers.permits
        first.try_acquire()
        second.enqueue("second's", 1.0)
        first.release()
        assert not first.try_acquire()
        workers.answer()
        assert workers.granted == ["second's"]

    def test_a_waiter_that_leaves_passes_its_turn_on(self):
        workers = Workers(2, limit=1)
        first, second = workers.permits
        first.try_acquire()
        second.enqueue("second's", 1.0)
        first.enqueue("first's", 2.0)
        first.release()
        workers.rung.clear()
        assert second.withdraw("second's")
        workers.answer()
        assert workers.granted == ["first's"]

    def test_the_queue_is_bounded_for_all_together(self):
        workers = Workers(2, limit=1, queue=2)
        first, second = workers.permits
        first.try_acquire()
        assert first.enqueue("a", 1.0)
        assert second.enqueue("b", 1.0)
        assert not first.enqueue("c", 1.0)
        assert not second.enqueue("d", 1.0)

    def test_a_later_worker_keeps_the_limit_in_force(self):
        workers = Workers(2, limit=5)
        workers.permits[0].resize(3)
        late = Permits(5, 1, grant=print, row=workers.permits[1].row)
        assert late.limit == 3
