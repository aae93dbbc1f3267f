"""What the kernel knows about a tree of processes: who belongs to it, its CPU time, its memory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

_PROC = Path("/proc")
_RESET_PEAK = "5"  # proc(5), clear_refs: forget the peak resident set


def cpu_clock_id(pid: int) -> int:
    """The clock of a process's CPU time, user and system, all its threads, the finished ones too.

    This is what ``clock_getcpuclockid(3)`` returns on Linux: the complement of the process id over three bits
    that name the clock (2: the scheduler's, in nanoseconds). ``/proc/PID/stat`` only counts ticks of 10 ms.
    """
    return (~pid << 3) | 2


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants that are alive."""
    members = [pid]
    for member in members:  # grows as it is walked
        members += _children(member)
    return members


def cpu_ns(pid: int) -> int:
    """CPU time in nanoseconds that the living processes of a tree have used so far."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):  # ended since it was listed
            total += time.clock_gettime_ns(cpu_clock_id(member))
    return total


def _status_kib(pid: int, field: str) -> int:
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return 0


def _total_bytes(pid: int, field: str) -> int:
    total = 0
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += _status_kib(member, field) * 1024
    return total


def loop_ns(pid: int) -> int:
    """CPU time in nanoseconds that the first thread of a process has used, which runs the event loop."""
    # The kernel's Documentation/scheduler/sched-stats.rst: time on the CPU, time waiting for it, turns.
    return int((_PROC / str(pid) / "task" / str(pid) / "schedstat").read_text().split()[0])


def resident_bytes(pid: int) -> int:
    """Resident memory of a tree; pages that its processes share count once for each."""
    return _total_bytes(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Let the peak of resident memory start from what is resident now."""
    for member in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            (_PROC / str(member) / "clear_refs").write_text(_RESET_PEAK)


def peak_bytes(pid: int) -> int:
    """Peak of resident memory of a tree since :func:`forget_peak`; the sum of each process's own peak."""
    return _total_bytes(pid, "VmHWM")
