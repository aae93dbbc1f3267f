"""Keys that this sidecar has sent, remembered apart from the store.

A store that is flushed, or that fails over to a replica which had not heard of a claim yet, forgets. This
memory does not, so a lost record cannot lead to a second execution through the same sidecar.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import Final
from zlib import crc32

_PLACES: Final = 8  # ids in a row
_TAG_BYTES: Final = 16  # of an id's hexadecimal digits: 64 bits
_TAGS_BYTES: Final = _PLACES * _TAG_BYTES
_EXPIRIES: Final = Struct(f"={_PLACES}d")
_EXPIRY: Final = Struct("=d")
_ROW_BYTES: Final = _TAGS_BYTES + _EXPIRIES.size
_FREE: Final = b"\0"
_CAPACITY: Final = 1 << 18


class SentKeys:
    """A bounded set of record ids that expire.

    A table of fixed size, like a processor's cache: an id belongs to one row of eight places, and where the
    row is full the id that expires first gives way. 24 bytes an id. An id is told from another by 64 bits;
    an error would be on the side of a refusal.

    Memory is mapped, not allocated: processes that map the same file share it, and pages that were never used
    cost nothing. What two workers can lose to each other in a race is one id.

    Args:
        capacity: How many ids fit at most; a multiple of 8.
        fd: Descriptor of a file of :meth:`size` octets, all 0 at first; by default the memory is private.
    """

    __slots__ = ("_memory", "_rows")

    def __init__(self, capacity: int = _CAPACITY, *, fd: int = -1) -> None:
        self._rows = capacity // _PLACES
        self._memory = mmap.mmap(fd, self.size(capacity))

    @staticmethod
    def size(capacity: int = _CAPACITY) -> int:
        """Octets of memory for ``capacity`` ids."""
        return capacity // _PLACES * _ROW_BYTES

    def add(self, record_id: str, expires_at: float) -> None:
        """Remember ``record_id`` until ``expires_at``, seconds of the monotonic clock."""
        tag, start = self._place(record_id)
        tags = self._memory[start : start + _TAGS_BYTES]
        position = _position(tags, tag)
        if position < 0:
            position = _position(tags, _FREE)
        if position < 0:
            expiries = _EXPIRIES.unpack_from(self._memory, start + _TAGS_BYTES)
            position = expiries.index(min(expiries)) * _TAG_BYTES
        _EXPIRY.pack_into(self._memory, _expiry_of(start, position), expires_at)
        self._memory[start + position : start + position + _TAG_BYTES] = tag

    def holds(self, record_id: str, now: float) -> bool:
        """Whether ``record_id`` is remembered at ``now``."""
        tag, start = self._place(record_id)
        position = _position(self._memory[start : start + _TAGS_BYTES], tag)
        if position < 0:
            return False
        (expires_at,) = _EXPIRY.unpack_from(self._memory, _expiry_of(start, position))
        return bool(now < expires_at)

    def forget(self, record_id: str) -> None:
        """The key is free again."""
        tag, start = self._place(record_id)
        position = _position(self._memory[start : start + _TAGS_BYTES], tag)
        if position >= 0:
            _EXPIRY.pack_into(self._memory, _expiry_of(start, position), 0.0)

    def _place(self, record_id: str) -> tuple[bytes, int]:
        """The id's tag and where its row begins: the same in every process, unlike ``hash``."""
        tag = record_id.encode()[:_TAG_BYTES]
        return tag, crc32(tag) % self._rows * _ROW_BYTES


def _position(tags: bytes, tag: bytes) -> int:
    """What ``find`` says, in two thirds of the time."""
    before, found, _ = tags.partition(tag)
    return len(before) if found else -1


def _expiry_of(start: int, position: int) -> int:
    return start + _TAGS_BYTES + position // _TAG_BYTES * _EXPIRY.size
