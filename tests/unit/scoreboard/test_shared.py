"""Real processes on real shared memory: children do one thing each and report through their exit status."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.breaker import layout
from sidecar.breaker.core import REFUSED, Breaker
from sidecar.breaker.settings import BreakerSettings
from sidecar.bulkhead import core as bulkhead
from sidecar.bulkhead.waiting import acquire, wake
from sidecar.retry import budget
from sidecar.scoreboard.row import ScoreboardFull
from sidecar.scoreboard.shared import MOST_COMMON, MOST_OWN, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.make(workers=3, rows=8)
    yield board
    board.close()


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a child; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def wait(*pids: int) -> None:
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def breaker_row(board: Scoreboard):
    return board.row("breaker:app", common=layout.COMMON_CELLS, own=layout.OWN_CELLS)


def permits_on(board: Scoreboard, limit: int, grant: Callable = print) -> bulkhead.Permits:
    row = board.row("bulkhead:app", common=bulkhead.COMMON_CELLS, own=bulkhead.OWN_CELLS)
    return bulkhead.Permits(limit, 10, grant=grant, row=row, ring=board.ring)


class TestRows:
    def test_the_same_name_is_the_same_row(self, board):
        first = board.row("a", common=2, own=2)
        board.worker = 1
        second = board.row("a", common=2, own=2)
        other = board.row("b", common=2, own=2)
        first.cells[0] = -5
        first.cells[first.mine] = 1
        second.cells[second.mine] = 2
        assert second.cells[0] == -5
        assert first.mine != second.mine
        assert first.total(0) == second.total(0) == 3
        assert other.total(0) == 0

    def test_cores_fit_into_a_row(self):
        for core in (layout, bulkhead, budget):
            assert core.COMMON_CELLS <= MOST_COMMON
            assert core.OWN_CELLS <= MOST_OWN

    def test_a_row_too_wide_is_refused(self, board):
        with pytest.raises(ValueError, match=f"{MOST_COMMON} \\+ {MOST_OWN} cells"):
            board.row("a", common=MOST_COMMON + 1, own=1)
        with pytest.raises(ValueError, match="needs"):
            board.row("a", common=1, own=MOST_OWN + 1)

    def test_a_full_board_says_so_and_a_row_nobody_uses_is_given_again(self, board):
        for number in range(8):
            board.row(f"row {number}", common=1, own=1).cells[0] = 7
        with pytest.raises(ScoreboardFull, match="all 8 rows"):
            board.row("one more", common=1, own=1)
        board.leave("row 3")
        board.leave("never made")
        assert board.row("one more", common=1, own=1).cells[0] == 0

    def test_a_row_that_another_worker_uses_stays(self, board):
        board.row("a", common=1, own=1).cells[0] = 7
        board.worker = 1
        board.row("a", common=1, own=1)
        board.leave("a")
        assert board.row("a", common=1, own=1).cells[0] == 7


class TestProcesses:
    def test_one_childs_failures_open_the_breaker_of_another(self, board):
        def fail(worker: int) -> None:
            board.join(worker)
            breaker = Breaker("app", row=breaker_row(board))
            for _ in range(3):
                breaker.failed(breaker.admit(100.0), 100.0, 0.1)

        mine = Breaker("app", row=breaker_row(board))
        assert mine.admit(100.0) != REFUSED
        wait(fork(lambda: fail(1)))
        assert mine.admit(100.0) != REFUSED
        wait(fork(lambda: fail(2)))
        assert mine.admit(100.0) == REFUSED

    def test_a_success_anywhere_ends_the_row_of_failures(self, board):
        def succeed() -> None:
            board.join(1)
            breaker = Breaker("app", row=breaker_row(board))
            breaker.succeeded(breaker.admit(100.0), 100.0, 0.1)

        mine = Breaker("app", row=breaker_row(board))
        for _ in range(4):
            mine.failed(mine.admit(100.0), 100.0, 0.1)
        wait(fork(succeed))
        for _ in range(4):
            mine.failed(mine.admit(100.0), 100.0, 0.1)
        assert mine.state(100.0) == "closed"

    def test_all_workers_together_let_three_probes_through(self, board):
        gate_reader, gate_writer = os.pipe()
        report_reader, report_writer = os.pipe()

        def probe(worker: int) -> None:
            board.join(worker)
            breaker = Breaker("app", row=breaker_row(board))
            os.read(gate_reader, 1)
            admitted = sum(breaker.admit(200.0) != REFUSED for _ in range(100))
            os.write(report_writer, bytes([admitted]))

        mine = Breaker("app", BreakerSettings(reset_timeout=10), row=breaker_row(board))
        for _ in range(5):
            mine.failed(mine.admit(100.0), 100.0, 0.1)
        children = [fork(lambda worker=worker: probe(worker)) for worker in (1, 2)]
        os.write(gate_writer, b"..")
        wait(*children)
        assert sum(os.read(report_reader, 2)) == 3
        for fd in (gate_reader, gate_writer, report_reader, report_writer):
            os.close(fd)

    def test_what_a_killed_worker_held_is_given_back(self, board):
        ready_reader, ready_writer = os.pipe()

        def hold_everything() -> None:
            board.join(1)
            permits = permits_on(board, 2)
            breaker = Breaker("app", row=breaker_row(board))
            retries = budget.RetryBudget(row=board.row("retry:app", common=1, own=2))
            permits.try_acquire()
            permits.try_acquire()
            retries.request_started()
            retries.try_retry()
            for _ in range(3):
                breaker.admit(200.0)
            os.write(ready_writer, b".")
            signal.pause()

        granted: list[str] = []
        mine = Breaker("app", BreakerSettings(reset_timeout=10), row=breaker_row(board))
        permits = permits_on(board, 2, granted.append)
        retries = budget.RetryBudget(row=board.row("retry:app", common=1, own=2))
        for _ in range(5):
            mine.failed(mine.admit(100.0), 100.0, 0.1)
        child = fork(hold_everything)
        os.read(ready_reader, 1)
        assert not permits.try_acquire()
        assert permits.enqueue("mine", 1.0)
        assert mine.admit(200.0) == REFUSED
        assert (retries.active, retries.retries) == (1, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        board.forget(1)
        assert select.select([board.doorbell], [], [], 0)[0]
        board.answer()
        permits.hand_out()
        assert granted == ["mine"]
        assert permits.in_use == 1
        assert mine.admit(200.0) != REFUSED
        assert (retries.active, retries.retries) == (0, 0)
        os.close(ready_reader)
        os.close(ready_writer)

    def test_a_successor_begins_with_nothing(self, board):
        row = board.row("a", common=1, own=1)
        row.cells[row.mine] = 5
        board.join(0)
        assert row.total(0) == 0

    def test_a_permit_given_back_here_wakes_a_waiter_there(self, board):
        async def wait_for_a_permit() -> None:
            permits = permits_on(board, 1, wake)

            def answer() -> None:
                board.answer()
                permits.hand_out()

            asyncio.get_running_loop().add_reader(board.doorbell, answer)
            assert not permits.try_acquire()
            await acquire(permits, 30)
            permits.release()

        def work() -> None:
            board.join(1)
            asyncio.run(wait_for_a_permit())

        mine = permits_on(board, 1)
        assert mine.try_acquire()
        child = fork(work)
        while not mine.waiting:
            time.sleep(0.001)
        mine.release()
        wait(child)
        assert (mine.in_use, mine.waiting) == (0, 0)

    def test_a_lock_dies_with_its_holder(self, board):
        row = board.row("a", common=1, own=1)

        def die_with_it() -> None:
            row.lock.__enter__()
            os.kill(os.getpid(), signal.SIGKILL)

        child = fork(die_with_it)
        os.waitpid(child, 0)
        with row.lock:
            row.cells[0] = 1

    def test_the_limit_holds_under_a_race(self, board):
        """Both children take and give back as fast as they can; neither sees more in use than allowed."""

        def race(worker: int) -> None:
            board.join(worker)
            permits = permits_on(board, 3)
            held = 0
            for turn in range(20_000):
                if turn % 7 < 4:
                    held += permits.try_acquire()
                elif held:
                    permits.release()
                    held -= 1
                # An attempt of the other worker that is about to be taken back may show.
                assert permits.in_use <= 3 + 1
            for _ in range(held):
                permits.release()

        mine = permits_on(board, 3)
        wait(*[fork(lambda worker=worker: race(worker)) for worker in (1, 2)])
        assert (mine.in_use, mine.waiting) == (0, 0)


class TestDoorbell:
    def test_rings_one_worker_only(self, board):
        board.ring(1)
        board.ring(1)
        assert not select.select([board.doorbell], [], [], 0)[0]
        board.worker = 1
        assert select.select([board.doorbell], [], [], 0)[0]
        board.answer()
        assert not select.select([board.doorbell], [], [], 0)[0]

    def test_a_bell_that_nobody_answers_does_not_block(self, board):
        for _ in range(70_000):
            board.ring(0)
        board.answer()
        assert not select.select([board.doorbell], [], [], 0)[0]
