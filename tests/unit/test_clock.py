import time

import pytest

from sidecar.clock import SYSTEM_CLOCK, ManualClock


def test_a_manual_clock_stands_still_until_it_is_moved():
    clock = ManualClock(monotonic=5.0, wall=100.0)
    assert (clock.monotonic(), clock.wall()) == (5.0, 100.0)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.wall()) == (6.5, 101.5)


def test_time_does_not_go_back():
    with pytest.raises(ValueError, match="does not go back"):
        ManualClock().advance(-1)


def test_the_machines_clock():
    assert time.monotonic() <= SYSTEM_CLOCK.monotonic() <= time.monotonic()
    assert abs(SYSTEM_CLOCK.wall() - time.time()) < 60
