"""The process's own figures, under the names that all Prometheus clients give them."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.metrics.registry import Registry

_STATM = Path("/proc/self/statm")


def define_process_metrics(registry: Registry) -> None:
    """Add CPU time, memory and start time. With several workers the first two are their sums."""
    started = time.time()
    registry.counter("process_cpu_seconds_total", "CPU time spent, user and system, in seconds.").value_from(
        time.process_time
    )
    registry.gauge("process_resident_memory_bytes", "Memory in use, in bytes.").value_from(_resident_memory)
    registry.gauge(
        "process_start_time_seconds", "When the process began, in seconds since the Unix epoch.", rule="min"
    ).value_from(lambda: started)


def _resident_memory() -> float:
    """The second field of ``/proc/self/statm`` (proc(5)) in bytes; not a number where there is none."""
    try:
        pages = int(_STATM.read_bytes().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE")
