from __future__ import annotations

from random import Random

import pytest

from sidecar.retry.backoff import Backoff


def test_without_jitter_delays_grow_up_to_the_maximum():
    backoff = Backoff(initial_delay=0.1, multiplier=2, max_delay=0.5, jitter=False)
    assert [backoff.delay(retry) for retry in range(1, 6)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_full_jitter_is_uniform_between_zero_and_the_longest():
    backoff, random = Backoff(), Random(1)
    delays = [backoff.delay(2, random) for _ in range(10_000)]
    assert 0 <= min(delays) < 0.001
    assert 0.199 < max(delays) <= 0.2
    assert sum(delays) / len(delays) == pytest.approx(0.1, rel=0.02)


def test_the_same_seed_gives_the_same_delays():
    backoff = Backoff()
    assert [backoff.delay(1, Random(7))] == [backoff.delay(1, Random(7))]


def test_the_defaults_draw_from_the_system():
    assert 0 <= Backoff().delay(1) <= 0.1


def test_thousands_of_retries_do_not_overflow():
    assert Backoff(jitter=False).delay(100_000) == 2.0


@pytest.mark.parametrize("bad", [{"initial_delay": -1}, {"max_delay": -0.1}, {"multiplier": 0.5}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"not negative|at least 1"):
        Backoff(**bad)
