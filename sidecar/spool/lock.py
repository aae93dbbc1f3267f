"""Locks between processes that the kernel drops when their holder dies, however it dies.

A pid written to a file outlives ``kill -9`` and may name a stranger later; an ``flock`` does neither.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class ProcessLock:
    """An exclusive lock on a file, held until :meth:`release` or the end of the process.

    The file stays when the lock is released: were it removed, two processes could each lock a file of that
    name.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock if nobody else has it; never waits.

        Raises:
            OSError: The file can be neither opened nor made.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock up; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Owner:
    """The mark of one running process on what it has begun and not finished.

    Every process holds the lock of a file of its own; others tell by that lock whether it still runs.
    """

    __slots__ = ("_directory", "_lock", "token")

    def __init__(self, directory: Path, token: str) -> None:
        self._directory = directory
        self.token = token
        self._lock = ProcessLock(self._path(token))

    def _path(self, token: str) -> Path:
        return self._directory / f"owner-{token}.lock"

    def enter(self) -> Self:
        """Say that this process runs, and remove the marks of those that died. The token must be fresh."""
        for mark in self._directory.glob("owner-*.lock"):
            self.is_alive(mark.name.removeprefix("owner-").removesuffix(".lock"))
        # Another process that sweeps may hold the new file for a moment, or have removed it just now.
        while not (self._lock.acquire() and self._lock.path.exists()):
            self._lock.release()
        return self

    def leave(self) -> None:
        """Say that this process has ended in good order; harmless when it never entered."""
        if self._lock.held:
            self._lock.path.unlink(missing_ok=True)
            self._lock.release()

    def is_alive(self, token: str) -> bool:
        """Whether the process that carries ``token`` still runs; removes the mark of a dead one."""
        path = self._path(token)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)
