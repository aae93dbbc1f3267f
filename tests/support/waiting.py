"""Waiting for something to become true, never longer than said."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 15.0
"""Seconds a test waits for what should take milliseconds; only a failing test waits that long."""

_POLL = 0.005


def eventually(look: Callable[[], T], what: str, *, within: float = PATIENCE, every: float = _POLL) -> T:
    """The first true value that ``look`` gives; it is asked ``every`` so many seconds.

    For what can only be looked at: a port, a file, another process's figures. Where there is an event, that
    is waited for instead.

    Raises:
        AssertionError: Nothing true within ``within`` seconds; the message names ``what`` and the last value.
    """
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {value!r}")
        time.sleep(every)
