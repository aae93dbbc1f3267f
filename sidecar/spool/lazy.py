"""A spool that is opened when it is needed first: most sidecars never need one, and SQLite costs memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.spool.model import FILE_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.spool.spool import Spool


class LazySpool:
    """The spool of a process, shared by whoever has something that must wait.

    Args:
        directory: Where its file lies.
        max_queue_bytes: Bound of each queue, in bytes of payload.
    """

    def __init__(self, directory: Path, *, max_queue_bytes: int) -> None:
        self._directory = directory
        self._max_queue_bytes = max_queue_bytes
        self._opening = asyncio.Lock()
        self._spool: Spool | None = None

    def __repr__(self) -> str:
        return f"<LazySpool {self._directory} {'open' if self._spool else 'not open'}>"

    @property
    def exists(self) -> bool:
        """Whether an earlier process has left a spool, perhaps with something in it."""
        return (self._directory / FILE_NAME).exists()

    async def open(self) -> Spool:
        """The open spool.

        Raises:
            SpoolUnavailable: It cannot be opened.
        """
        async with self._opening:
            if self._spool is None:
                from sidecar.spool.spool import Spool  # noqa: PLC0415 - SQLite, only where it is needed

                spool = Spool(self._directory, max_queue_bytes=self._max_queue_bytes)
                await spool.open()
                self._spool = spool
            return self._spool

    async def close(self) -> None:
        """Close it, if it is open."""
        async with self._opening:
            spool, self._spool = self._spool, None
            if spool is not None:
                await spool.close()
