"""The figures of one route, ready for the data path: no label is looked up when a request ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sidecar.methods import KNOWN_METHODS, OTHER

if TYPE_CHECKING:
    from sidecar.metrics.cells import Counter, Gauge, Histogram
    from sidecar.metrics.names import Metrics

UNMATCHED: Final = "unmatched"
"""The ``route`` label of requests that no route matches."""


class RouteMetrics:
    """Counts the requests of one route.

    ``started`` and ``ended`` are called once each per request and together cost less than a microsecond.
    However many methods and statuses strangers invent, the number of cells stays bounded.
    """

    __slots__ = ("_active", "_cells", "_durations", "_metrics", "route")

    def __init__(self, metrics: Metrics, route: str) -> None:
        self.route = route
        self._metrics = metrics
        self._active: Gauge = metrics.active_requests.labels(route=route)
        self._durations: dict[str, Histogram] = {}
        self._cells: dict[bytes, dict[int, tuple[Counter, Histogram]]] = {}

    @property
    def active(self) -> float:
        """Requests that have not ended."""
        return self._active.value

    def started(self) -> None:
        """A request was routed here."""
        self._active.value += 1

    def moved_to(self, route: RouteMetrics) -> None:
        """A request that was started here turns out to belong to another route, where it will end."""
        self._active.value -= 1
        route.started()

    def ended(self, method: bytes, status: int, duration_ms: float, trace_id: str = "") -> None:
        """A request has ended.

        Args:
            method: As the client wrote it.
            status: What the client got; for one that went away before a status line, 499 as nginx has it.
            duration_ms: Milliseconds since its first byte.
            trace_id: Of a sampled request, 32 hexadecimal digits: it becomes its bucket's exemplar.
        """
        self._active.value -= 1
        by_status = self._cells.get(method)
        pair = None if by_status is None else by_status.get(status)
        if pair is None:
            pair = self._find(method, status)
        count, duration = pair
        count.value += 1
        if trace_id:
            duration.observe_traced(duration_ms, trace_id, time.time())
        else:
            duration.observe(duration_ms)

    def _find(self, method: bytes, status: int) -> tuple[Counter, Histogram]:
        """The cells of a combination not seen before, or of one that is not worth a place of its own."""
        name = KNOWN_METHODS.get(method, OTHER)
        code = str(status) if 100 <= status <= 599 else OTHER  # noqa: PLR2004 - the range of RFC 9110, section 15
        duration = self._durations.get(name)
        if duration is None:
            duration = self._metrics.http_request_duration.labels(method=name, route=self.route)
            self._durations[name] = duration
        count = self._metrics.http_requests.labels(method=name, route=self.route, status_code=code)
        pair = (count, duration)
        if OTHER not in (name, code):
            self._cells.setdefault(method, {})[status] = pair
        return pair
