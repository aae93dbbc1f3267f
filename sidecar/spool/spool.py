"""The spool as the event loop sees it: every call is an await, SQLite runs in one thread of its own.

Group commit: while one transaction is being made durable, calls pile up behind it; the next transaction takes
them all and pays one fsync. A call returns after the fsync that covers it, never before.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.ids import random_hex
from sidecar.spool.file import SpoolFile, translate
from sidecar.spool.lock import Owner, ProcessLock
from sidecar.spool.model import EMPTY, FILE_NAME, Item, QueueStats, SpoolError, SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_DEFAULT_QUEUE_BYTES = 1024 * 1024 * 1024
# Calls that share a transaction at most: bounds how long the first one waits for the last one's statements.
_MAX_GROUP = 512

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Call:
    """One awaited call on its way through the thread."""

    __slots__ = ("error", "future", "result", "run", "writes")

    def __init__(self, run: Callable[[SpoolFile], Any], future: asyncio.Future[Any], *, writes: bool) -> None:
        self.run = run
        self.future = future
        self.writes = writes
        self.result: Any = None
        self.error: SpoolError | None = None

    def resolve(self) -> None:
        """Wake the caller, unless it has given up waiting."""
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Spool:
    """Several named durable queues in one file.

    Every method that waits raises :class:`SpoolError` when it could not do its work: ``SpoolFull`` without
    room, ``SpoolUnavailable`` otherwise. Nothing is half done. Whether it was done is not known to a caller
    that was cancelled while it waited, nor after ``SpoolUnavailable`` from a disk that failed in the middle
    of an fsync.

    Workers may share a directory: they append to the same queues, and :meth:`lead` picks the one that
    delivers.

    Args:
        directory: Where the file lies; made, readable by its owner only, if it is missing. Local disk only.
        max_queue_bytes: Bound of each queue, in bytes of payload.
        clock: Tells when items were appended.
    """

    def __init__(
        self, directory: Path, *, max_queue_bytes: int = _DEFAULT_QUEUE_BYTES, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._directory = directory
        self._max_queue_bytes = max_queue_bytes
        self._clock = clock
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._stats: dict[str, QueueStats] = {}
        self._leads: dict[str, ProcessLock] = {}
        self._owner = Owner(directory, random_hex(8))
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._file: SpoolFile | None = None

    def __repr__(self) -> str:
        state = "open" if self._thread else "closed"
        return f"<Spool {self._directory / FILE_NAME} {state} {self._stats}>"

    # -- lifetime ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open or make the file and start the thread. Must be called after ``fork``.

        Raises:
            SpoolUnavailable: The directory cannot be written, or the file is no spool of a known format.
        """
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()
        try:
            await self._submit(lambda _file: self._owner.enter(), writes=True)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish every call that was made, close the file and end the thread. Can be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._calls.put(None)
        await asyncio.to_thread(thread.join)
        for lead in self._leads.values():
            lead.release()
        self._leads.clear()
        self._owner.leave()

    # -- writing -----------------------------------------------------------------------------------------

    async def append(self, queue: str, payload: bytes, *, owned: bool = False) -> int:
        """Add ``payload`` at the end of ``queue``; returns its id once it is on the disk.

        ``owned`` marks the item as begun by this process: :meth:`orphans` finds it when the process is gone.
        """
        return await self.append_many(queue, (payload,), owned=owned)

    async def append_many(self, queue: str, payloads: Sequence[bytes], *, owned: bool = False) -> int:
        """Add all payloads or none; returns the last one's id once they are on the disk."""
        owner = self._owner.token if owned else None
        return await self._submit(
            lambda file: file.append(queue, payloads, self._clock.wall(), owner), writes=True
        )

    async def discard(self, queue: str, up_to: int) -> int:
        """Remove the delivered items of ``queue``, those with ids up to ``up_to``; returns their number."""
        return await self._submit(lambda file: file.discard(queue, up_to), writes=True)

    async def move(self, item_id: int, queue: str, payload: bytes) -> int | None:
        """Replace an item by ``payload`` at the end of ``queue``, in one step; returns the new id.

        ``None`` when the item is gone. The bound of the queue does not apply, a full disk does.
        """
        return await self._submit(
            lambda file: file.move(item_id, queue, payload, self._clock.wall()), writes=True
        )

    async def remove(self, item_id: int) -> bool:
        """Remove one item of whatever queue; whether it was there."""
        return await self._submit(lambda file: file.remove(item_id), writes=True)

    # -- reading -----------------------------------------------------------------------------------------

    async def peek(self, queue: str, limit: int, *, after: int = 0) -> list[Item]:
        """The first ``limit`` items of ``queue`` whose id is over ``after``, in order."""
        return await self._submit(lambda file: file.peek(queue, limit, after), writes=False)

    async def orphans(self, queue: str, limit: int) -> list[Item]:
        """The first ``limit`` owned items of ``queue`` whose process has ended, in order."""
        return await self._submit(lambda file: file.orphans(queue, limit, self._owner.is_alive), writes=False)

    async def stats(self, queue: str) -> QueueStats:
        """How full ``queue`` is, whichever process filled it."""
        self._stats = await self._submit(SpoolFile.stats, writes=False)
        return self._stats.get(queue, EMPTY)

    def depth(self, queue: str) -> int:
        """Number of items in ``queue`` when this process last wrote or called :meth:`stats`; never waits."""
        return self._stats.get(queue, EMPTY).depth

    def oldest_age(self, queue: str) -> float:
        """Seconds since the first item of ``queue`` was appended, else 0; known as in :meth:`depth`."""
        oldest_at = self._stats.get(queue, EMPTY).oldest_at
        return 0.0 if oldest_at is None else max(0.0, self._clock.wall() - oldest_at)

    def lead(self, queue: str) -> bool:
        """Whether this process is the one that delivers ``queue``.

        The first to ask is, until it closes the spool or dies; the others keep asking.
        """
        lead = self._leads.get(queue)
        if lead is None:
            lead = self._leads[queue] = ProcessLock(self._directory / f"{queue}.lead")
        try:
            return lead.acquire()
        except OSError as error:
            raise translate(error) from error

    # -- the thread --------------------------------------------------------------------------------------

    async def _submit(self, run: Callable[[SpoolFile], _T], *, writes: bool) -> _T:
        if self._thread is None or self._loop is None:
            raise SpoolUnavailable("the spool is not open")
        future: asyncio.Future[_T] = self._loop.create_future()
        self._calls.put(_Call(run, future, writes=writes))
        return await future

    def _work(self) -> None:
        """The thread: groups of calls until the mark of the end."""
        running = True
        while running:
            group, running = self._take_group()
            if group:
                stats = self._run_group(group)
                self._hand_back(group, stats)
        self._drop_file()

    def _take_group(self) -> tuple[list[_Call], bool]:
        """Wait for a call and take those behind it; false when the spool is to be closed after them."""
        group: list[_Call] = []
        call = self._calls.get()
        while call is not None:
            group.append(call)
            if len(group) == _MAX_GROUP:
                return group, True
            try:
                call = self._calls.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _run_group(self, group: list[_Call]) -> dict[str, QueueStats] | None:
        """Run the calls, in order, in one transaction if one of them writes; fail them together."""
        try:
            file = self._ready_file()
            if not any(call.writes for call in group):
                _run_calls(file, group)
                return None
            file.begin()
            _run_calls(file, group)
            return file.commit()
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller must learn of it
            for call in group:
                call.error = translate(error)
            # After a failed write or fsync SQLite's view of the file is not to be trusted: start afresh.
            self._drop_file()
            return None

    def _ready_file(self) -> SpoolFile:
        if self._file is None:
            self._file = SpoolFile(self._directory / FILE_NAME, max_queue_bytes=self._max_queue_bytes)
        return self._file

    def _drop_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.rollback()
            file.close()
        except sqlite3.Error:
            _log.exception("closing the spool file failed; what was committed is safe")

    def _hand_back(self, group: list[_Call], stats: dict[str, QueueStats] | None) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(partial(self._resolve, group, stats))
        except RuntimeError:
            _log.warning("the event loop has closed before %d spool calls were answered", len(group))

    def _resolve(self, group: list[_Call], stats: dict[str, QueueStats] | None) -> None:
        if stats is not None:
            self._stats = stats
        for call in group:
            call.resolve()


def _run_calls(file: SpoolFile, group: list[_Call]) -> None:
    for call in group:
        try:
            call.result = call.run(file)
        except SpoolError as error:
            call.error = error  # refused before anything was changed: the others go on
