"""Waiting for a record to be settled, without a connection or a timer of one's own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Watch:
    """One duplicate's wait for one record. A context manager; news between two waits is not missed."""

    __slots__ = ("_news", "_record_id", "_watchers")

    def __init__(self, watchers: Watchers, record_id: str) -> None:
        self._watchers = watchers
        self._record_id = record_id
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        self._watchers.add(self._record_id, self._news)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchers.discard(self._record_id, self._news)

    async def news(self, seconds: float) -> None:
        """Return when the record may have been settled since the last call, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()


class Watchers:
    """Who waits for which record in this process."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._events

    def __len__(self) -> int:
        return len(self._events)

    def add(self, record_id: str, event: asyncio.Event) -> None:
        """Set ``event`` whenever there is news of the record."""
        self._events.setdefault(record_id, set()).add(event)

    def discard(self, record_id: str, event: asyncio.Event) -> None:
        """Stop doing so."""
        events = self._events[record_id]
        events.discard(event)
        if not events:
            del self._events[record_id]

    def wake(self, record_id: str) -> None:
        """There is news of the record."""
        for event in self._events.get(record_id, ()):
            event.set()
