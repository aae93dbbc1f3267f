from __future__ import annotations

import pytest

from sidecar.breaker.settings import BreakerSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("success_threshold", 0),
        ("minimum_calls", -1),
        ("failure_rate", 0),
        ("failure_rate", 1.5),
        ("slow_rate", 0.0),
        ("window", 0),
        ("slow_call", 0),
        ("reset_timeout", 0),
        ("reset_timeout", 30000),
        ("reset_timeout", float("nan")),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        BreakerSettings(**{name: value})


def test_milliseconds_are_recognised():
    with pytest.raises(ValueError, match="divided by 1000"):
        BreakerSettings(reset_timeout=30000)


def test_the_defaults_are_the_documented_ones():
    settings = BreakerSettings()
    assert (settings.failure_threshold, settings.success_threshold, settings.reset_timeout) == (5, 3, 30)
    assert (settings.failure_rate, settings.window, settings.minimum_calls) == (0.5, 10, 20)
    assert (settings.slow_call, settings.slow_rate) == (None, 0.8)
