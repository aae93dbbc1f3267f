"""The spool's file: SQLite statements, called by one thread.

WAL with ``synchronous=FULL``: a commit returns after the log is on the disk, so what was appended survives
the process, the kernel and the power (https://www.sqlite.org/pragma.html#pragma_synchronous). Several
processes may use one file; SQLite lets them write one after another. The file must not lie on a network file
system (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sidecar.spool.model import EMPTY, Item, QueueStats, SpoolError, SpoolFull, SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SCHEMA_VERSION = 1
# AUTOINCREMENT: an id is never used twice, not even after everything was discarded and the process restarted.
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS item (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    queue      TEXT NOT NULL,
    created_at REAL NOT NULL,
    owner      TEXT,
    payload    BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS item_by_queue ON item (queue, id);
CREATE TABLE IF NOT EXISTS queue (name TEXT PRIMARY KEY, depth INTEGER NOT NULL, bytes INTEGER NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""
# How long one process waits for another one's transaction; those last as long as an fsync.
_BUSY_MILLISECONDS = 5000
_WAL_LIMIT_BYTES = 16 * 1024 * 1024
_PRIMARY_CODE = 0xFF


class SpoolFile:
    """One open spool file.

    Changes are made between :meth:`begin` and :meth:`commit`; a refused one raises before it changes
    anything.
    """

    def __init__(self, path: Path, *, max_queue_bytes: int) -> None:
        self._max_queue_bytes = max_queue_bytes
        self._stats: dict[str, QueueStats] = {}
        self._changed: set[str] = set()
        _create_private(path)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MILLISECONDS / 1000)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise SpoolUnavailable(
                f"the spool file has format {version} and this version knows {_SCHEMA_VERSION}: "
                "use the newer sidecar that wrote it, or let that one deliver what waits first"
            )
        if version < _SCHEMA_VERSION:
            db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file; the last process to do so folds the log into it."""
        self._db.close()

    # -- transactions ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start changing: waits for other processes, then reads how full each queue is."""
        self._db.execute("BEGIN IMMEDIATE")
        self._changed.clear()
        self._load_stats()

    def commit(self) -> dict[str, QueueStats]:
        """Make every change since :meth:`begin` durable (one fsync); returns how full each queue is now."""
        for queue in self._changed:
            self._stats[queue] = stats = self._with_oldest(queue, self._stats[queue])
            self._db.execute(
                "INSERT INTO queue (name, depth, bytes) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (name) DO UPDATE SET depth = ?2, bytes = ?3",
                (queue, stats.depth, stats.bytes),
            )
        self._db.execute("COMMIT")
        return dict(self._stats)

    def rollback(self) -> None:
        """Forget every change since :meth:`begin`. SQLite has done so itself after some errors."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def stats(self) -> dict[str, QueueStats]:
        """How full each queue is."""
        self._load_stats()
        return dict(self._stats)

    def _load_stats(self) -> None:
        rows = self._db.execute("SELECT name, depth, bytes FROM queue").fetchall()
        self._stats = {name: self._with_oldest(name, QueueStats(depth, size)) for name, depth, size in rows}

    def _with_oldest(self, queue: str, stats: QueueStats) -> QueueStats:
        row = self._db.execute(
            "SELECT created_at FROM item WHERE queue = ? ORDER BY id LIMIT 1", (queue,)
        ).fetchone()
        return QueueStats(stats.depth, stats.bytes, None if row is None else row[0])

    def _count(self, queue: str, items: int, size: int) -> None:
        stats = self._stats.get(queue, EMPTY)
        self._stats[queue] = QueueStats(stats.depth + items, stats.bytes + size, stats.oldest_at)
        self._changed.add(queue)

    # -- changes -----------------------------------------------------------------------------------------

    def append(self, queue: str, payloads: Sequence[bytes], created_at: float, owner: str | None) -> int:
        """Add payloads at the end, all or none; returns the last one's id.

        Raises:
            SpoolFull: The queue would grow beyond its bound.
        """
        size = sum(map(len, payloads))
        self._require_room(queue, size)
        last = 0
        for payload in payloads:
            last = self._insert(queue, created_at, owner, payload)
        self._count(queue, len(payloads), size)
        return last

    def discard(self, queue: str, up_to: int) -> int:
        """Remove the items of a queue whose id is at most ``up_to``; returns their number."""
        items, size = self._db.execute(
            "SELECT count(*), total(length(payload)) FROM item WHERE queue = ? AND id <= ?", (queue, up_to)
        ).fetchone()
        if items:
            self._db.execute("DELETE FROM item WHERE queue = ? AND id <= ?", (queue, up_to))
            self._count(queue, -items, -int(size))
        return int(items)

    def move(self, item_id: int, queue: str, payload: bytes, created_at: float) -> int | None:
        """Put ``payload`` at the end of ``queue`` in place of the item; returns the new id.

        ``None``, and nothing is changed, when the item is gone. The bound does not apply: what was given room
        when it was appended must not be refused when it is finished.
        """
        if not self.remove(item_id):
            return None
        moved = self._insert(queue, created_at, None, payload)
        self._count(queue, 1, len(payload))
        return moved

    def remove(self, item_id: int) -> bool:
        """Remove one item; whether it was there."""
        row = self._db.execute("SELECT queue, length(payload) FROM item WHERE id = ?", (item_id,)).fetchone()
        if row is None:
            return False
        self._db.execute("DELETE FROM item WHERE id = ?", (item_id,))
        self._count(row[0], -1, -row[1])
        return True

    def _insert(self, queue: str, created_at: float, owner: str | None, payload: bytes) -> int:
        cursor = self._db.execute(
            "INSERT INTO item (queue, created_at, owner, payload) VALUES (?, ?, ?, ?)",
            (queue, created_at, owner, payload),
        )
        return int(cursor.lastrowid or 0)

    def _require_room(self, queue: str, size: int) -> None:
        used = self._stats.get(queue, EMPTY).bytes
        if used + size > self._max_queue_bytes:
            raise SpoolFull(
                f"spool queue {queue!r} holds {used} of at most {self._max_queue_bytes} bytes: "
                f"{size} more do not fit"
            )

    # -- reading -----------------------------------------------------------------------------------------

    def peek(self, queue: str, limit: int, after: int) -> list[Item]:
        """The first ``limit`` items whose id is over ``after``, in order."""
        rows = self._db.execute(
            "SELECT id, created_at, payload FROM item WHERE queue = ? AND id > ? ORDER BY id LIMIT ?",
            (queue, after, limit),
        )
        return [Item(*row) for row in rows]

    def orphans(self, queue: str, limit: int, is_alive: Callable[[str], bool]) -> list[Item]:
        """The first ``limit`` items that were appended by processes which no longer run, in order."""
        owners = self._db.execute(
            "SELECT DISTINCT owner FROM item WHERE queue = ? AND owner IS NOT NULL", (queue,)
        ).fetchall()
        dead = [owner for (owner,) in owners if not is_alive(owner)]
        if not dead:
            return []
        marks = ",".join("?" * len(dead))
        rows = self._db.execute(
            f"SELECT id, created_at, payload FROM item WHERE queue = ? AND owner IN ({marks}) "  # noqa: S608 - marks only
            "ORDER BY id LIMIT ?",
            (queue, *dead, limit),
        )
        return [Item(*row) for row in rows]


def _create_private(path: Path) -> None:
    """Make the file readable by its owner only (SQLite gives its log the same mode) and its name durable."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def translate(error: Exception) -> SpoolError:
    """The spool's own error, a fresh one, for one of SQLite's, the operating system's, or its own."""
    if isinstance(error, SpoolError):
        return type(error)(*error.args)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & _PRIMARY_CODE == sqlite3.SQLITE_FULL:
        return SpoolFull(f"the disk under the spool is full: {error}")
    return SpoolUnavailable(f"the spool cannot be used: {error}")
