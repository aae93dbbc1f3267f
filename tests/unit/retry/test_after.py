from __future__ import annotations

import pytest

from sidecar.retry.after import parse_retry_after

NOW = 784111777.0 - 37  # 37 seconds before the date of RFC 9110's examples


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120.0),
        (b" 7\t", 7.0),
        (b"0", 0.0),
        (b"9" * 400, 999_999_999.0),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 37.0),
        (b"Sun Nov  6 08:49:37 1994", 37.0),
        (b"Sun, 06 Nov 1984 08:49:37 GMT", 0.0),
    ],
)
def test_seconds_and_the_three_forms_of_a_date(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"1.5",
        b"soon",
        b"\xb2",
        "٣".encode(),
        b"Sun, 99 Nov 1994 08:49:37 GMT",
        b"1e9",
        b"+5",
        b"Jan 1994 000099:99:991 9999999999",
    ],
)
def test_nonsense_is_no_wish(value):
    assert parse_retry_after(value, NOW) is None
