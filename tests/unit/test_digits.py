from __future__ import annotations

import pytest

from sidecar.digits import THOUSANDTHS, decimal


@pytest.mark.parametrize("number", [0, 7, 1023, 1024, 1999, 2000, 30_007, 1_023_999, 1_024_000, 2**63])
def test_numbers(number):
    assert decimal(number) == str(number).encode()


def test_three_digits_behind_a_point():
    assert [THOUSANDTHS[each] for each in (0, 7, 42, 999)] == [b"000", b"007", b"042", b"999"]
