"""The log: callers put what is to be told into a bounded buffer; somebody else writes it.

In the running sidecar that is the event loop itself, every few milliseconds and without ever waiting for the
reader (:meth:`Log.write_from`): a second thread would contend for the interpreter at every system call of the
data path, which costs several times what the lines do. Elsewhere it is one thread.

When the reader of standard output stalls, the buffer fills, and further lines are counted and given up: a log
that nobody reads must not stop payments.
"""

from __future__ import annotations

import os
import select
import threading
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal

from sidecar.log.console import ConsoleLines
from sidecar.log.json import JsonLines
from sidecar.log.outlet import Outlet, end_of_portion
from sidecar.log.record import MAX_TEXT, Event, Lines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Levels by rank; those of :mod:`logging`."""

_INFO: Final = LEVELS["info"]
_CAPACITY: Final = 8192
_BATCH: Final = 16
"""Lines per write: the interpreter is never held for longer than they take to format, some 30 µs.

With much larger ones glibc also hands memory back to the kernel after each, which costs more than the writes.
"""

_LOOP_BATCH: Final = 64
"""The same for the event loop, which has no lock to hand over."""

_GATHER: Final = 0.02
"""Seconds between two looks at the buffer: a handover of the interpreter lock costs more than a line does."""


class Log:
    """Writes what happens to a file descriptor, without ever blocking its caller.

    Args:
        service: Named in every JSON line.
        level: Least level that is written: ``debug``, ``info``, ``warning`` or ``error``.
        style: ``json`` for machines, ``console`` for people.
        fd: Where lines go; standard output.
        capacity: Records that may wait; 600 bytes each as a rule, 3 KiB where a target is long.
        now: Seconds since the Unix epoch.

    Attributes:
        dropped: Lines given up so far.
    """

    __slots__ = (
        "_awake",
        "_capacity",
        "_closing",
        "_fd",
        "_level",
        "_lines",
        "_loop",
        "_loop_thread",
        "_now",
        "_outlet",
        "_records",
        "_rest",
        "_rest_lines",
        "_wake",
        "_writer",
        "dropped",
    )

    def __init__(
        self,
        *,
        service: str,
        level: str = "info",
        style: Literal["json", "console"] = "json",
        fd: int = 1,
        capacity: int = _CAPACITY,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lines: Lines = (
            JsonLines(service) if style == "json" else ConsoleLines(colours=_wants_colours(fd))
        )
        self._fd = fd
        self._capacity = capacity
        self._now = now
        self._start_over()
        self.set_level(level)
        _open_logs.append(self)

    def _start_over(self) -> None:
        """Nothing waits, no thread runs: how a log begins, and how a child finds it after a fork.

        The parent's thread does not exist in the child, and what waited will be written by the parent.
        """
        self._records: deque[Event | bytes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._outlet: Outlet | None = None
        self._rest = b""
        self._rest_lines = 0
        self._awake = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None
        self.dropped = 0

    @property
    def level(self) -> str:
        """The least level that is written."""
        return next(name for name, rank in LEVELS.items() if rank == self._level)

    def set_level(self, level: str) -> None:
        """Change the least level that is written, from the next record on.

        Raises:
            ValueError: ``level`` is none of :data:`LEVELS`; case does not matter.
        """
        rank = LEVELS.get(level.lower())
        if rank is None:
            raise ValueError(f"a log level is one of {', '.join(LEVELS)}, not {level!r}")
        self._level = rank

    def enabled(self, rank: int) -> bool:
        """Whether records of this rank (:data:`LEVELS`) are written."""
        return rank >= self._level

    def debug(self, event: str, /, **fields: Any) -> None:
        """Record a detail that only a developer looks for."""
        self.record("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        """Record something ordinary."""
        self.record("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        """Record something that works for now but needs a look."""
        self.record("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        """Record a failure."""
        self.record("error", event, fields)

    def crash(self, event: str, error: BaseException, /, **fields: Any) -> None:
        """Record a failure that nobody foresaw, with its traceback."""
        trace = "".join(traceback.format_exception(error))[-MAX_TEXT:]
        self.record("error", event, {**fields, "error": error, "traceback": trace})

    def record(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Record ``event`` at a level known only at run time. Safe to call from any thread."""
        if LEVELS[level] >= self._level:
            self._put(Event(self._now(), level, event, fields))

    def access(  # noqa: PLR0917 - by position, because keywords cost as much as the rest of it
        self,
        method: bytes,
        target: bytes,
        route: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        duration_ms: float,
        attempts: int,
        upstream_host: str,
        idempotency: str,
        breaker: str,
        reason: str,
        correlation_id: bytes,
        trace_id: bytes,
    ) -> None:
        """Record a finished request, at level ``info``.

        Args:
            method: As the client wrote it.
            target: The same; its query is not written.
            route: The route's name.
            status: What the client got.
            bytes_in: Bytes of the request's body.
            bytes_out: Bytes of the response's body.
            duration_ms: Milliseconds from the first byte of the request to the end of the response.
            attempts: How often it was sent upstream, or tried to be; 0 for what the sidecar answered itself.
            upstream_host: Host and port of the last attempt, or empty.
            idempotency: What came of the key (the ``result`` of ``idempotency_requests_total``), or empty.
            breaker: State of the host's breaker at the last attempt, or empty.
            reason: Code of an answer that the sidecar made, in lower case, or empty; perhaps with a finer
                cause behind a colon, which becomes a field of its own.
            correlation_id: The request's.
            trace_id: 32 hexadecimal digits, or empty.
        """
        if self._level > _INFO:
            return
        if len(self._records) >= self._capacity:
            self.dropped += 1
            return
        if len(method) > MAX_TEXT:
            method = method[:MAX_TEXT]
        if len(target) > MAX_TEXT:
            target = target[:MAX_TEXT]
        # The line is made at once: to keep what it says would cost more.
        self._records.append(
            self._lines.access(
                self._now(),
                method,
                target,
                route,
                status,
                bytes_in,
                bytes_out,
                duration_ms,
                attempts,
                upstream_host,
                idempotency,
                breaker,
                reason,
                correlation_id,
                trace_id,
            )
        )
        if not self._awake:
            self._rouse()

    def _put(self, event: Event) -> None:
        if len(self._records) >= self._capacity:
            self.dropped += 1
            return
        self._records.append(event)
        if not self._awake:
            self._rouse()

    def write_from(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have ``loop``, which runs in this thread, write from now on; :meth:`close` comes before its end."""
        try:
            self._outlet = Outlet(self._fd)
        except OSError:
            return  # no /proc, or a descriptor of an unusual kind: the thread can write to anything
        self._loop = loop
        self._loop_thread = threading.get_ident()

    def _rouse(self) -> None:
        """See to it that what waits is written soon."""
        self._awake = True
        loop = self._loop
        if loop is None:
            self._rouse_thread()
        elif threading.get_ident() == self._loop_thread:
            loop.call_later(_GATHER, self._write_on_loop)
        else:
            loop.call_soon_threadsafe(self._write_on_loop)

    def _write_on_loop(self) -> None:
        """Write what the reader takes now; the loop is never held for longer than a batch takes to format."""
        loop, outlet = self._loop, self._outlet
        if loop is None or outlet is None:
            return
        records = self._records
        if not self._rest and records:
            count = min(_LOOP_BATCH, len(records))
            self._rest = b"".join([self._line(records.popleft()) for _ in range(count)])
            self._rest_lines = count
        try:
            taken = outlet.write(self._rest)
        except OSError:  # the reader is gone, or the disk is full: nothing here can be done about it
            self.dropped += self._rest_lines
            taken = len(self._rest)
        self._rest = self._rest[taken:] if taken < len(self._rest) else b""
        if self._rest:
            loop.call_later(_GATHER, self._write_on_loop)
        elif records:
            loop.call_soon(self._write_on_loop)
        else:
            self._awake = False

    def _rouse_thread(self) -> None:
        """Wake the thread; the first record starts it."""
        self._wake.set()
        if self._writer is None:
            # A daemon: one that is stuck in a write to a stalled pipe must not keep the process alive.
            self._writer = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._writer.start()

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for at most ``timeout`` seconds; the rest is counted as dropped.

        Records that come later are never written.
        """
        if self._loop is not None:
            self._loop = None
            if self._outlet is not None:
                self._outlet.close()
            if self._records or self._rest:
                self._rouse_thread()
        self._closing.set()
        if self._writer is not None:
            self._wake.set()
            self._writer.join(timeout)
        self.dropped += len(self._records)
        if self in _open_logs:
            _open_logs.remove(self)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(_GATHER)
            self._drain()
            self._awake = False
            if self._records:  # appended after the last look, by someone who still saw the thread awake
                self._awake = True
                self._wake.set()

    def _drain(self) -> None:
        """Write what waits now. What comes meanwhile is left to the next round: this one must end."""
        rest, self._rest = self._rest, b""
        if rest and not self._write(rest):
            self.dropped += self._rest_lines
        left = len(self._records)
        while left:
            batch = [self._records.popleft() for _ in range(min(_BATCH, left))]
            left -= len(batch)
            if not self._write(b"".join([self._line(record) for record in batch])):
                self.dropped += len(batch)

    def _line(self, record: Event | bytes) -> bytes:
        return self._lines.event(record) if isinstance(record, Event) else record

    def _write(self, data: bytes) -> bool:
        """Write all of ``data``; whether there was still somebody to read it."""
        written = 0
        while written < len(data):
            try:
                written += os.write(self._fd, data[written : end_of_portion(data, written)])
            except BlockingIOError:  # another process that shares the pipe made it non-blocking
                select.select([], [self._fd], [], _GATHER)
            except OSError:  # the reader is gone, or the disk is full: nothing here can be done about it
                return False
        return True


_open_logs: list[Log] = []


def _start_over_in_child() -> None:
    for log in _open_logs:
        log._start_over()  # noqa: SLF001 - the same module


os.register_at_fork(after_in_child=_start_over_in_child)


def _wants_colours(fd: int) -> bool:
    """A terminal, unless its user said no (no-color.org)."""
    return os.isatty(fd) and not os.environ.get("NO_COLOR")
