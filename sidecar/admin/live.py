"""``GET /admin/live``: a figure of everything each second, as server-sent events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from sidecar.admin.answers import moment
from sidecar.admin.figures import Traffic, dead_letters
from sidecar.admin.reading import query_of
from sidecar.admin.streams import STREAMS, EventStream
from sidecar.admin.upstreams import describe
from sidecar.idempotency.core import State
from sidecar.idempotency.operator import LONGEST_PAGE
from sidecar.idempotency.store import StoreError
from sidecar.version import VERSION

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.admin.control import Control
    from sidecar.idempotency.store import IdempotencyStore

_EVERY: Final = 1.0
_COUNT_EVERY: Final = 5.0


class UnknownKeys:
    """Counts the records of unknown outcome, a page at a time: a store of millions has no index of them.

    Attributes:
        count: As of the last time that the end was reached; ``None`` before, and while the store is down.
        counted_at: When that was, in seconds since the Unix epoch.
    """

    def __init__(self, store: IdempotencyStore) -> None:
        self.count: int | None = None
        self.counted_at: float | None = None
        self._store = store
        self._cursor: str | None = None
        self._found = 0

    async def go_on(self) -> None:
        """Look at one more page."""
        try:
            page = await self._store.page(state=State.UNKNOWN, cursor=self._cursor, limit=LONGEST_PAGE)
        except StoreError:
            self.count, self._cursor, self._found = None, None, 0
            return
        self._found += len(page.items)
        self._cursor = page.cursor
        if page.cursor is None:
            self.count, self.counted_at, self._found = self._found, time.time(), 0


async def stream(request: web.Request, control: Control) -> web.StreamResponse:
    """``GET /admin/live``."""
    query_of(request)
    streams = request.app[STREAMS]
    traffic, keys = Traffic(), UnknownKeys(control.engine.store)
    count_at = 0.0
    with streams.place():
        events = EventStream(request)
        await events.begin()
        goes_on = True
        while goes_on:
            now = time.monotonic()
            if now >= count_at:
                await keys.go_on()
                count_at = now + _COUNT_EVERY
            await events.send(await _figures(control, traffic, keys, now))
            goes_on = await streams.pause(_EVERY)
    return events.response


async def _figures(control: Control, traffic: Traffic, keys: UnknownKeys, now: float) -> dict[str, Any]:
    snapshot = await control.snapshot()
    not_ready, load = await control.not_ready(), await control.load()
    return {
        "at": moment(time.time()),
        "service": control.settings.service,
        "version": VERSION,
        "ready": not not_ready,
        "not_ready_because": not_ready or None,
        "draining": control.draining,
        "in_flight": load.in_flight,
        **traffic.observe(snapshot, now),
        "upstreams": [describe(upstream, load) for upstream in control.pipeline.upstreams.values()],
        "keys": {
            "in_progress": load.executions,
            "unknown": keys.count,
            "counted_at": moment(keys.counted_at),
        },
        "dead_letters": dead_letters(snapshot),
    }
