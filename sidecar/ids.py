"""Identifiers made per request, cheaply: random digits come from a pool, not from one system call each."""

from __future__ import annotations

import os
from time import time_ns
from typing import Final

_POOL_DIGITS: Final = 8192
_POOL_OCTETS: Final = 4096
_POOL_TAILS: Final = 128


class RandomPool:
    """Hands out random hexadecimal digits of the operating system, read in blocks.

    Not safe across ``fork``: a child must forget the block, or two processes would give the same ids.
    """

    __slots__ = ("_digits", "_millisecond", "_octets", "_octets_used", "_position", "_prefix", "_tails")

    def __init__(self) -> None:
        self._digits = ""
        self._position = _POOL_DIGITS
        self._octets = b""
        self._octets_used = _POOL_OCTETS
        self._tails: list[bytes] = []
        self._millisecond = -1
        self._prefix = b""

    def take(self, count: int) -> str:
        """``count`` random hexadecimal digits in lower case (at most 8192)."""
        start = self._position
        end = start + count
        if end > _POOL_DIGITS:
            self._digits = os.urandom(_POOL_DIGITS // 2).hex()
            start, end = 0, count
        self._position = end
        return self._digits[start:end]

    def octets(self, count: int) -> bytes:
        """``count`` random octets (at most 4096)."""
        start = self._octets_used
        end = start + count
        if end > _POOL_OCTETS:
            self._octets = os.urandom(_POOL_OCTETS)
            start, end = 0, count
        self._octets_used = end
        return self._octets[start:end]

    def uuid7(self) -> bytes:
        """See :func:`uuid7`."""
        tails = self._tails  # what stands behind the time: 18 random digits each
        if not tails:
            # RFC 9562, section 4.1 wants the variant's two bits to be 10; the two that share their digit are
            # zero here, which leaves 72 random ones.
            digits = os.urandom(9 * _POOL_TAILS).hex().encode()
            tails = self._tails = [
                b"%b-8%b-%b" % (digits[at : at + 3], digits[at + 3 : at + 6], digits[at + 6 : at + 18])
                for at in range(0, 18 * _POOL_TAILS, 18)
            ]
        millisecond = time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            stamp = f"{millisecond:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7".encode()
        return self._prefix + tails.pop()

    def refill(self) -> None:
        """Forget what is left, as a child must after ``fork``."""
        self._position = _POOL_DIGITS
        self._octets_used = _POOL_OCTETS
        self._tails = []


_pool: Final = RandomPool()
os.register_at_fork(after_in_child=_pool.refill)


def random_hex(count: int) -> str:
    """``count`` random bytes (at most 4096) in lower-case hexadecimal."""
    return _pool.take(2 * count)


random_bytes: Final = _pool.octets
"""So many random bytes, at most 4096."""

random_digits: Final = _pool.take
"""So many random hexadecimal digits in lower case, at most 8192."""

uuid7_octets: Final = _pool.uuid7
"""The octets of :func:`uuid7`, for the wire."""


def uuid7() -> str:
    """A fresh UUID, version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 72 random bits."""
    return uuid7_octets().decode()


def uuid7_of(unix_milliseconds: int, random_part: bytes) -> str:
    """The UUID, version 7, of a moment and nine random bytes."""
    tail = random_part.hex()
    milliseconds = f"{unix_milliseconds:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{tail[:3]}-8{tail[3:6]}-{tail[6:18]}"
