"""Decimal numbers as octets, put together from ready ones: formatting them anew costs ten times as much."""

from __future__ import annotations

from typing import Final

_READY: Final = 1024
_DECIMALS: Final = [b"%d" % number for number in range(_READY)]

THOUSANDTHS: Final = [b"%03d" % number for number in range(1000)]
"""The three digits behind a decimal point."""


def decimal(number: int) -> bytes:
    """``number``, which is not negative, in decimal digits."""
    if number < _READY:
        return _DECIMALS[number]
    if number < _READY * 1000:
        return _DECIMALS[number // 1000] + THOUSANDTHS[number % 1000]
    return b"%d" % number
