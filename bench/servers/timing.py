"""How long a small piece of work takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLS, _TURNS = 100_000, 5


def _turn(work: Callable[[], object]) -> float:
    began = time.thread_time_ns()
    for _ in range(_CALLS):
        work()
    return (time.thread_time_ns() - began) / 1000 / _CALLS


def microseconds(work: Callable[[], object]) -> float:
    """CPU microseconds of one call, without those of calling."""
    return min(_turn(work) for _ in range(_TURNS)) - min(_turn(lambda: None) for _ in range(_TURNS))
