"""How the process treats its memory once it serves."""

from __future__ import annotations

import gc
import os
from typing import Final

# Of mallopt(3), from glibc's <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

_KEPT_FREE: Final = 8 * 1024 * 1024
_FROM_THE_KERNEL: Final = 4 * 1024 * 1024


def settle_memory() -> None:
    """What exists now lives as long as the process; what comes now comes and goes quickly."""
    _keep_freed_memory()
    # The youngest alone: the others have been looked at, and to look again would be a fortieth of the start.
    gc.collect(0)
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _keep_freed_memory() -> None:
    """Keep up to 8 MiB of freed memory for what comes next.

    By default glibc hands memory back to the kernel as soon as a little lies free at the end of its heap. The
    pieces of a large body come and go all the time, and the kernel would zero each one anew, page by page:
    a third of what relaying them costs. Other C libraries have no such call, and whoever sets glibc's own
    variables is heeded.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    import ctypes  # noqa: PLC0415 - takes milliseconds, which the start-up does not wait for

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)
        mallopt(_M_MMAP_THRESHOLD, _FROM_THE_KERNEL)
