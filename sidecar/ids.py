"""Identifiers made per request, cheaply: random digits come from a pool, not from one system call each."""

from __future__ import annotations

import os
from time import time_ns
from typing import Final

_POOL_DIGITS: Final = 8192
_POOL_OCTETS: Final = 4096
_POOL_TAILS: Final = 128
_TAIL: Final = b"000-8000-000000000000"
"""What stands behind the time and the version of a UUID: 72 random bits in the places of the zeros. The 8 is
the variant's 10 (RFC 9562, section 4.1) with two bits that share its digit."""
_TAIL_SIZE: Final = len(_TAIL)
_RANDOM_PLACES: Final = [place for place, octet in enumerate(_TAIL) if octet == ord("0")]


class RandomPool:
    """Hands out random hexadecimal digits of the operating system, read in blocks.

    Not safe across ``fork``: a child must forget the block, or two processes would give the same ids.
    """

    __slots__ = (
        "_digits",
        "_millisecond",
        "_octets",
        "_octets_used",
        "_position",
        "_prefix",
        "_tails",
        "_tails_used",
    )

    def __init__(self) -> None:
        self._digits = b""
        self._position = _POOL_DIGITS
        self._octets = b""
        self._octets_used = _POOL_OCTETS
        self._tails = b""
        self._tails_used = 0
        self._millisecond = -1
        self._prefix = b""

    def take(self, count: int) -> bytes:
        """``count`` random hexadecimal digits in lower case (at most 8192)."""
        start = self._position
        end = start + count
        if end > _POOL_DIGITS:
            self._digits = os.urandom(_POOL_DIGITS // 2).hex().encode()
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
        start = self._tails_used
        end = start + _TAIL_SIZE
        if end > len(self._tails):
            self._tails = _random_tails()
            start, end = 0, _TAIL_SIZE
        self._tails_used = end
        millisecond = time_ns() // 1_000_000
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            stamp = f"{millisecond:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7".encode()
        return self._prefix + self._tails[start:end]

    def two_uuid7(self) -> tuple[bytes, bytes]:
        """Two of them for hardly more than one: they share their time."""
        first = self.uuid7()
        start = self._tails_used
        end = start + _TAIL_SIZE
        if end > len(self._tails):
            return first, self.uuid7()
        self._tails_used = end
        return first, self._prefix + self._tails[start:end]

    def refill(self) -> None:
        """Forget what is left, as a child must after ``fork``."""
        self._position = _POOL_DIGITS
        self._octets_used = _POOL_OCTETS
        self._tails = b""


def _random_tails() -> bytes:
    """Tails of UUIDs side by side, all written at once."""
    tails = bytearray(_TAIL * _POOL_TAILS)
    count = len(_RANDOM_PLACES)
    digits = os.urandom(count * _POOL_TAILS // 2).hex().encode()
    for number, place in enumerate(_RANDOM_PLACES):
        tails[place::_TAIL_SIZE] = digits[number::count]
    return bytes(tails)


_pool: Final = RandomPool()
os.register_at_fork(after_in_child=_pool.refill)


def random_hex(count: int) -> str:
    """``count`` random bytes (at most 4096) in lower-case hexadecimal."""
    return _pool.take(2 * count).decode()


def random_bytes(count: int) -> bytes:
    """``count`` random bytes, at most 4096."""
    return _pool.octets(count)


def random_digits(count: int) -> bytes:
    """``count`` random hexadecimal digits in lower case, at most 8192."""
    return _pool.take(count)


def uuid7_octets() -> bytes:
    """The octets of :func:`uuid7`, for the wire."""
    return _pool.uuid7()


def two_uuid7_octets() -> tuple[bytes, bytes]:
    """The octets of two."""
    return _pool.two_uuid7()


def uuid7() -> str:
    """A fresh UUID, version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 72 random bits."""
    return uuid7_octets().decode()


def uuid7_of(unix_milliseconds: int, random_part: bytes) -> str:
    """The UUID, version 7, of a moment and nine random bytes."""
    tail = random_part.hex()
    milliseconds = f"{unix_milliseconds:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{tail[:3]}-8{tail[3:6]}-{tail[6:18]}"
