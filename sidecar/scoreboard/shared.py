"""Rows in memory that the workers of one sidecar share.

The first process makes one :class:`Scoreboard`; those that it starts inherit its descriptors, and attach to
it by its :attr:`~Scoreboard.handle`. Each then calls :meth:`Scoreboard.join` with its index and asks for rows
by name: workers that give the same name get the same row. When a worker has died, :meth:`Scoreboard.forget`
gives back what it held.

The mapping begins with a directory, two cells a row for a digest of its name, so that looking for a name
does not touch the rows; one that nobody has claimed costs address space, not memory. Then come the rows,
all of one width.

A row's lock is a POSIX record lock on its first byte (fcntl(2)): about 1.4 µs for taking it and giving it
back, and released by the kernel when its holder dies, however that comes about. Processes hold such locks,
not threads.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from hashlib import blake2b
from typing import Final, NamedTuple

from sidecar.scoreboard.row import Row, ScoreboardFull

MOST_COMMON: Final = 48
"""Common cells that a row may have."""

MOST_OWN: Final = 48
"""Own cells that a row may have per worker."""

_CELL: Final = 8  # bytes
_ENTRY: Final = 2  # cells of a row's entry in the directory; both 0 while the row is free
_OWN_WIDTH: Final = MOST_OWN + 1  # the last says whether the worker uses the row


class Handle(NamedTuple):
    """What a process needs to attach to a scoreboard whose descriptors it has inherited.

    Attributes:
        workers: How many processes share it.
        rows: How many rows there may be at once.
        fd: The mapping's descriptor.
        bells: Each worker's doorbell, reading end first.
    """

    workers: int
    rows: int
    fd: int
    bells: tuple[tuple[int, int], ...]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that must be inherited."""
        return (self.fd, *(fd for bell in self.bells for fd in bell))


class RecordLock:
    """Excludes other processes from what a byte of a file stands for."""

    __slots__ = ("_fd", "_offset")

    def __init__(self, fd: int, offset: int) -> None:
        self._fd = fd
        self._offset = offset

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, self._offset)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._offset)


class Scoreboard:
    """Shared rows for some processes, and a doorbell for each.

    Attributes:
        handle: What others attach by.
        worker: The number of this process.
    """

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.worker = 0
        self._rows = handle.rows
        self._width = MOST_COMMON + handle.workers * _OWN_WIDTH
        self._cells = memoryview(mmap.mmap(handle.fd, _size(handle.workers, handle.rows))).cast("q")
        self._directory_lock = RecordLock(handle.fd, 0)

    @classmethod
    def make(cls, workers: int, rows: int = 1024) -> Scoreboard:
        """A new one.

        Args:
            workers: How many processes share it, at least 1.
            rows: How many rows there may be at once.
        """
        fd = nameless_file(_size(workers, rows))
        return cls(Handle(workers, rows, fd, tuple(_bell() for _ in range(workers))))

    @property
    def workers(self) -> int:
        """How many processes share it."""
        return self.handle.workers

    def join(self, worker: int) -> None:
        """Be worker number ``worker`` from now on (from 0), with nothing left of its predecessor."""
        self.forget(worker)
        self.worker = worker

    def row(self, name: str, *, common: int, own: int) -> Row:
        """The row called ``name``, made if need be.

        Args:
            name: The same in all workers, for example ``breaker:app:10.0.0.1:80``.
            common: Common cells needed, at most :data:`MOST_COMMON`.
            own: Own cells needed, at most :data:`MOST_OWN`.

        Raises:
            ScoreboardFull: All rows are in use.
            ValueError: No row has that many cells.
        """
        if common > MOST_COMMON or own > MOST_OWN:
            raise ValueError(f"a row has {MOST_COMMON} + {MOST_OWN} cells, {name} needs {common} + {own}")
        with self._directory_lock:
            index = self._claim(name)
            self._cells[self._own(index, self.worker) + MOST_OWN] = 1
        start = self._start(index)
        return Row(
            self._cells[start : start + self._width],
            lock=self._lock(index),
            mine=MOST_COMMON + self.worker * _OWN_WIDTH,
            everyone=tuple(MOST_COMMON + worker * _OWN_WIDTH for worker in range(self.workers)),
        )

    def leave(self, name: str) -> None:
        """Use the row called ``name`` no longer. When no worker does, its place is free for another."""
        with self._directory_lock:
            index = self._find(*_digest(name))
            if index is not None:
                self._clear(index, self.worker)

    def forget(self, worker: int) -> None:
        """Give back what ``worker`` held (permits, probes, places in the retry budget), because it has ended.

        Whoever waits for a permit is told to look again.
        """
        with self._directory_lock:
            for index in range(self._rows):
                if self._cells[index * _ENTRY]:
                    self._clear(index, worker)
        for other in range(self.workers):
            if other != worker:
                self.ring(other)

    def ring(self, worker: int) -> None:
        """Wake ``worker``'s event loop: it may be its turn to hand out permits."""
        with suppress(BlockingIOError):  # a full pipe has woken it already
            os.write(self.handle.bells[worker][1], b"\0")

    @property
    def doorbell(self) -> int:
        """A file descriptor, readable once this worker was rung."""
        return self.handle.bells[self.worker][0]

    def answer(self) -> None:
        """Silence the own doorbell."""
        with suppress(BlockingIOError):
            while True:
                os.read(self.doorbell, 4096)

    def close(self) -> None:
        """Close this process's descriptors. Its rows must not be used after that."""
        for fd in self.handle.descriptors:
            os.close(fd)

    # Where things are, in cells from the beginning.

    def _start(self, index: int) -> int:
        return self._rows * _ENTRY + index * self._width

    def _own(self, index: int, worker: int) -> int:
        return self._start(index) + MOST_COMMON + worker * _OWN_WIDTH

    def _lock(self, index: int) -> RecordLock:
        return RecordLock(self.handle.fd, self._start(index) * _CELL)

    # The directory. Its lock is held, and a row's may be taken while it is, never the other way round.

    def _find(self, first: int, second: int) -> int | None:
        cells = self._cells
        for index in range(self._rows):
            if cells[index * _ENTRY] == first and cells[index * _ENTRY + 1] == second:
                return index
        return None

    def _claim(self, name: str) -> int:
        first, second = _digest(name)
        index = self._find(first, second)
        if index is None:
            index = self._find(0, 0)
            if index is None:
                raise ScoreboardFull(f"all {self._rows} rows are in use, {name} gets none")
            self._cells[index * _ENTRY] = first
            self._cells[index * _ENTRY + 1] = second
        return index

    def _clear(self, index: int, worker: int) -> None:
        """Empty a worker's own cells, and the whole row if it was the last to use it."""
        cells, own = self._cells, self._own(index, worker)
        with self._lock(index):
            for position in range(own, own + _OWN_WIDTH):
                cells[position] = 0
            if any(cells[self._own(index, other) + MOST_OWN] for other in range(self.workers)):
                return
            for position in range(self._start(index), self._start(index) + self._width):
                cells[position] = 0
            cells[index * _ENTRY] = cells[index * _ENTRY + 1] = 0


def _size(workers: int, rows: int) -> int:
    """Octets of the mapping."""
    return rows * (_ENTRY + MOST_COMMON + workers * _OWN_WIDTH) * _CELL


def nameless_file(size: int) -> int:
    """A descriptor of a file that only this process and its children have, in memory where possible."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("sidecar")
    else:  # pragma: no cover - macOS has none
        import tempfile  # noqa: PLC0415 - brings all kinds of compression

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _bell() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _digest(name: str) -> tuple[int, int]:
    """Two cells that stand for a name; the first is never 0, which marks a free row."""
    digest = blake2b(name.encode(), digest_size=14).digest()
    return int.from_bytes(digest[:7], "big") + 1, int.from_bytes(digest[7:], "big")
