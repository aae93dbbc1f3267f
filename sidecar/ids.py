"""Identifiers made per request, cheaply: random digits come from a pool, not from one system call each."""

from __future__ import annotations

import os
import time

_POOL_DIGITS = 8192

# RFC 9562, section 4.1: the variant's two bits are 10, so its digit is one of 8, 9, a, b.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class RandomPool:
    """Hands out random hexadecimal digits of the operating system, read in blocks.

    Not safe across ``fork``: a child must forget the block, or two processes would give the same ids.
    """

    __slots__ = ("_digits", "_millisecond", "_position", "_prefix")

    def __init__(self) -> None:
        self._digits = ""
        self._position = _POOL_DIGITS
        self._millisecond = -1
        self._prefix = ""

    def take(self, count: int) -> str:
        """``count`` random hexadecimal digits in lower case (at most 8192)."""
        start = self._position
        end = start + count
        if end > _POOL_DIGITS:
            self._fill()
            start, end = 0, count
        self._position = end
        return self._digits[start:end]

    def uuid7(self) -> str:
        """See :func:`uuid7`."""
        start = self._position
        if start > _POOL_DIGITS - 19:
            self._fill()
            start = 0
        self._position = start + 19
        digits = self._digits
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            stamp = f"{millisecond:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7"
        node = start + 7
        return (
            f"{self._prefix}{digits[start : start + 3]}-{_VARIANT[digits[start + 3]]}"
            f"{digits[start + 4 : node]}-{digits[node : node + 12]}"
        )

    def _fill(self) -> None:
        self._digits = os.urandom(_POOL_DIGITS // 2).hex()

    def refill(self) -> None:
        """Forget what is left, as a child must after ``fork``."""
        self._position = _POOL_DIGITS


_pool = RandomPool()
os.register_at_fork(after_in_child=_pool.refill)


def random_bytes(count: int) -> bytes:
    """``count`` random bytes, at most 4096."""
    return bytes.fromhex(_pool.take(2 * count))


def random_hex(count: int) -> str:
    """``count`` random bytes (at most 4096) in lower-case hexadecimal."""
    return _pool.take(2 * count)


random_digits = _pool.take
"""So many random hexadecimal digits in lower case, at most 8192."""

uuid7 = _pool.uuid7
"""A fresh UUID, version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits."""


def uuid7_of(unix_milliseconds: int, random_part: bytes) -> str:
    """The UUID, version 7, of a moment and ten random bytes."""
    tail = random_part.hex()
    milliseconds = f"{unix_milliseconds:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{tail[:3]}-{_VARIANT[tail[3]]}{tail[4:7]}-{tail[7:19]}"
