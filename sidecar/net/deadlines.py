"""Deadlines without a timer each.

Thousands of connections each have a deadline that moves with every request. A timer apiece would cost more
than the rest of a request's bookkeeping, so deadlines are plain attributes that one sweep looks at: a
connection stands in the slot of the moment at which it must be looked at next, and is put further back when
that comes and its deadline has moved on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

TICK: Final = 0.02
"""Seconds between two sweeps: how late a deadline may be noticed."""

_LONGEST_LOOK_AWAY: Final = 1.0
NEVER: Final = math.inf


class Watched(Protocol):
    """Something with a deadline.

    Attributes:
        deadline: In the event loop's time; ``inf`` for none.
        looked_at: When the sweep will look next; belongs to :class:`Deadlines`.
    """

    deadline: float
    looked_at: float

    def expire(self, now: float) -> None:
        """The deadline has passed; it must be moved on, or set to ``inf``, before this returns."""
        ...


class Deadlines:
    """Sweeps over what has a deadline."""

    __slots__ = ("_handle", "_loop", "_slots", "_swept")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Watched]] = {}
        self._swept = int(loop.time() / TICK)
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, item: Watched) -> None:
        """Look at ``item`` no later than its deadline. Call when that is earlier than ``item.looked_at``."""
        now = self._loop.time()
        if self._handle is None:
            self._swept = int(now / TICK)
            self._handle = self._loop.call_later(TICK, self._sweep)
        when = min(item.deadline, now + _LONGEST_LOOK_AWAY)
        slot = max(int(when / TICK) + 1, self._swept + 1)
        item.looked_at = slot * TICK
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = [item]
        else:
            items.append(item)

    def _sweep(self) -> None:
        now = self._loop.time()
        current = int(now / TICK)
        slots = self._slots
        # Before anything expires: what is watched from now on belongs to a later sweep, even if its deadline
        # has passed already. In a slot that this one has behind it, it would never be looked at again.
        first, self._swept = self._swept + 1, current
        for slot in range(first, current + 1):
            for item in slots.pop(slot, ()):
                # An item that was moved to an earlier slot still stands in its old one.
                if item.looked_at == slot * TICK:
                    self._look(item, now)
        self._handle = self._loop.call_later(TICK, self._sweep) if slots else None

    def _look(self, item: Watched, now: float) -> None:
        if item.deadline <= now:
            try:
                item.expire(now)
            except Exception as error:  # noqa: BLE001 - all others' time is kept here, too
                item.deadline = NEVER
                told = {"message": "a deadline that has passed was not dealt with", "exception": error}
                self._loop.call_exception_handler(told)
        item.looked_at = NEVER
        if item.deadline != NEVER:
            self.watch(item)

    def close(self) -> None:
        """Stop sweeping."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
