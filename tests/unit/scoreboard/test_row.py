from __future__ import annotations

from sidecar.scoreboard.row import PrivateRows, Row


def test_a_private_row_has_its_own_cells_after_the_common_ones():
    row = Row.private(common=3, own=2)
    assert len(row.cells) == 5
    assert (row.mine, row.everyone) == (3, (3,))
    with row.lock, row.lock:
        row.cells[0] = 1


def test_a_total_is_over_all_workers():
    row = Row([9, 1, 2, 10, 20], lock=Row.private(common=0, own=0).lock, mine=1, everyone=(1, 3))
    assert row.total(0) == 11
    assert row.total(1) == 22


def test_a_single_process_gets_a_new_row_each_time_and_has_nobody_to_wake():
    rows = PrivateRows()
    first, second = (rows.row("same", common=1, own=1) for _ in range(2))
    first.cells[0] = 1
    assert second.cells[0] == 0
    rows.ring(1)
