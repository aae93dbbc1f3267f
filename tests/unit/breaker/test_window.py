from __future__ import annotations

from sidecar.breaker.window import BUCKETS, RING_CELLS, SlidingWindow


def make(workers: int = 1, seconds: float = 10.0) -> list[SlidingWindow]:
    cells = [0] * (workers * RING_CELLS)
    rings = tuple(range(0, workers * RING_CELLS, RING_CELLS))
    return [SlidingWindow(cells, seconds=seconds, mine=ring, rings=rings) for ring in rings]


def test_counts_calls_failures_and_slow_calls():
    (window,) = make()
    window.begin(1)
    window.add(100.0, failed=False, slow=False)
    window.add(100.1, failed=True, slow=False)
    window.add(100.2, failed=True, slow=True)
    assert window.totals(100.2, 1) == (3, 2, 1)


def test_a_bucket_leaves_as_a_whole():
    (window,) = make()
    window.begin(1)
    for second in range(100, 100 + BUCKETS):
        window.add(float(second), failed=True, slow=False)
    assert window.totals(109.9, 1) == (10, 10, 0)
    assert window.totals(110.0, 1) == (9, 9, 0)
    assert window.totals(118.9, 1) == (1, 1, 0)
    assert window.totals(119.0, 1) == (0, 0, 0)


def test_a_bucket_is_used_again_for_a_later_slot():
    (window,) = make()
    window.begin(1)
    window.add(100.0, failed=True, slow=True)
    window.add(110.0, failed=False, slow=False)
    assert window.totals(110.0, 1) == (1, 0, 0)


def test_an_heir_of_the_ring_goes_on_counting_in_the_bucket():
    (window,) = make()
    window.begin(1)
    window.add(100.0, failed=False, slow=False)
    heir = SlidingWindow(window._cells, seconds=10.0, mine=0, rings=(0,))
    heir.add(100.5, failed=False, slow=False)
    assert window.totals(100.5, 1) == (2, 0, 0)


def test_between_turns_a_call_is_one_addition():
    (window,) = make()
    window.begin(1)
    window.add(100.25, failed=False, slow=False)
    assert window.ends == 101.0
    window._cells[window.calls] += 1
    assert window.totals(100.5, 1) == (2, 0, 0)


def test_a_clock_read_twice_at_the_seam_loses_nothing():
    (window,) = make(seconds=1 / 3)
    window.begin(1)
    for step in range(3000):
        window.add(100 + step / 3000, failed=False, slow=False)
    assert 900 <= window.totals(100 + 2999 / 3000, 1).calls <= 1000


def test_adds_up_all_workers_of_the_same_generation():
    first, second, third = make(workers=3)
    first.begin(8)
    second.begin(8)
    third.begin(4)
    for window in (first, second, third):
        window.add(50.0, failed=True, slow=False)
    assert first.totals(50.0, 8) == second.totals(50.0, 8) == (2, 2, 0)


def test_begin_forgets_the_own_ring_only():
    first, second = make(workers=2)
    first.begin(4)
    second.begin(4)
    first.add(50.0, failed=True, slow=False)
    second.add(50.0, failed=True, slow=False)
    first.begin(8)
    assert first.totals(50.0, 8) == (0, 0, 0)
    assert second.totals(50.0, 4) == (1, 1, 0)
