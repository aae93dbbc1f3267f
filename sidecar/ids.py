"""Identifiers made per request, cheaply: random bytes come from a pool, not from one system call each."""

from __future__ import annotations

import os
import time

_POOL_BYTES = 4096


class RandomPool:
    """Hands out random bytes of the operating system, read in blocks.

    Not safe across ``fork``: a child must make its own pool, or two processes would give the same ids.
    """

    __slots__ = ("_block", "_position")

    def __init__(self) -> None:
        self._block = b""
        self._position = _POOL_BYTES

    def take(self, count: int) -> bytes:
        """``count`` random bytes (at most 4096)."""
        start = self._position
        end = start + count
        if end > _POOL_BYTES or not self._block:
            self._block = os.urandom(_POOL_BYTES)
            start, end = 0, count
        self._position = end
        return self._block[start:end]

    def refill(self) -> None:
        """Forget what is left, as a child must after ``fork``."""
        self._position = _POOL_BYTES


_pool = RandomPool()
os.register_at_fork(after_in_child=_pool.refill)


def random_bytes(count: int) -> bytes:
    """``count`` random bytes, at most 4096."""
    return _pool.take(count)


def random_hex(count: int) -> str:
    """``count`` random bytes in lower-case hexadecimal."""
    return _pool.take(count).hex()


def uuid7() -> str:
    """A fresh UUID, version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 74 random bits."""
    return uuid7_of(time.time_ns() // 1_000_000, _pool.take(10))


def uuid7_of(unix_milliseconds: int, random_part: bytes) -> str:
    """The UUID, version 7, of a moment and ten random bytes."""
    tail = random_part.hex()
    milliseconds = f"{unix_milliseconds:012x}"
    # The version's nibble is 7; the variant's two bits are 10, so its nibble is one of 8, 9, a, b.
    variant = "89ab"[int(tail[3], 16) & 3]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{tail[:3]}-{variant}{tail[4:7]}-{tail[7:19]}"
