import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
    quote,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("3ms", 0.003),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("24h", 86400.0),
        ("30d", 2592000.0),
        (" 2 s ", 2.0),
        ("0s", 0.0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a duration such as 100ms, 30s or 24h, got ''"),
        ("5", "a duration needs a unit: did you mean 5s or 5ms?"),
        ("-5s", "expected a duration such as 100ms, 30s or 24h, got '-5s'"),
        ("1e3s", "expected a duration such as 100ms, 30s or 24h, got '1e3s'"),
        ("٣s", "expected a duration such as 100ms, 30s or 24h, got '٣s'"),
        ("5 parsecs", "unknown unit 'parsecs' in '5 parsecs': use ms, s, m, h or d"),
        ("1" * 16 + "s", "expected a duration such as 100ms, 30s or 24h, got '1111111111111111s'"),
    ],
)
def test_what_is_no_duration(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("8192", 8192),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("1MiB", 1 << 20),
        ("1.5KiB", 1536),
        ("2GiB", 2 << 30),
        ("1TiB", 1 << 40),
        ("500KB", 500_000),
        ("3MB", 3_000_000),
        ("1GB", 1_000_000_000),
        ("7B", 7),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.5", "'1.5' is not a whole number of bytes"),
        ("0.3KiB", "'0.3KiB' is not a whole number of bytes"),
        ("5 potatoes", "unknown unit 'potatoes' in '5 potatoes': use B, KiB, MiB or GiB"),
        ("-1", "expected a size such as 64KiB or 1MiB, got '-1'"),
    ],
)
def test_what_is_no_size(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_size(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "rate"), [("20%", 0.2), ("0.2", 0.2), ("0", 0.0), ("1", 1.0), ("100 %", 1.0)]
)
def test_rates(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("20", "a rate lies between 0 and 1 (0% and 100%), got 20: did you mean 20%?"),
        ("200", "a rate lies between 0 and 1 (0% and 100%), got 200"),
        ("150%", "a rate lies between 0 and 1 (0% and 100%), got 150%"),
        ("20ms", "unknown unit 'ms' in '20ms': write 20% or 0.2"),
        ("often", "expected a rate such as 20% or 0.2, got 'often'"),
    ],
)
def test_what_is_no_rate(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_rate(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "100ms"),
        (0.0, "0ms"),
        (1.0, "1s"),
        (60.0, "60s"),
        (300.0, "5m"),
        (3600.0, "1h"),
        (86400.0, "24h"),
    ],
)
def test_durations_are_shown_in_the_unit_that_people_use(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(0, 10**11))
def test_a_duration_survives_being_written(milliseconds):
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 1 << 49))
def test_a_size_survives_being_written(size):
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 100_000))
def test_a_rate_survives_being_written(thousandths):
    rate = thousandths / 100_000
    assert parse_rate(format_rate(rate)) == pytest.approx(rate)


def test_an_echo_is_bounded():
    assert quote("x" * 1000) == repr("x" * 40 + "…")
