"""Carries encoded spans from the event loop to a collector, in batches, on a thread of its own.

The loop appends to a bounded queue and never waits. A collector that is dead, slow or a black hole costs
spans, which are counted, and nothing else.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sidecar.otlp.sender import Rejected, Unavailable
from sidecar.tracing import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.log import Log
    from sidecar.otlp.sender import Sender

_FIRST_BACKOFF: Final = 1.0
_MAX_BACKOFF: Final = 30.0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How spans are gathered; the names and defaults are those of the ``OTEL_BSP_*`` variables.

    Attributes:
        queue: Spans that may wait.
        batch: Spans sent at once, at most.
        delay: Seconds after which an incomplete batch is sent.
        timeout: Seconds that one batch is tried for.
    """

    queue: int = 2048
    batch: int = 512
    delay: float = 5.0
    timeout: float = 30.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> BatchLimits:
        """Read ``OTEL_BSP_MAX_QUEUE_SIZE`` and its like; a batch cannot be larger than the queue.

        Raises:
            ValueError: One of them is not a positive integer.
        """
        queue = _positive(environ, "OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        return cls(
            queue=queue,
            batch=min(queue, _positive(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)),
            delay=_positive(environ, "OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
            timeout=_positive(environ, "OTEL_BSP_EXPORT_TIMEOUT", 30_000) / 1000,
        )


def _positive(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError(f"{name} is a positive integer, not {text!r}")
    return int(text)


class BatchExporter:
    """Queues spans and sends them.

    Args:
        sender: The way to the collector; used and closed by the thread only.
        resource: The encoded ``Resource``.
        scope: The encoded ``InstrumentationScope``.
        limits: How spans are gathered.
        log: Told once when the collector fails, and once when it is back.

    Attributes:
        exported: Spans that the collector has taken.
    """

    def __init__(
        self, sender: Sender, *, resource: bytes, scope: bytes, limits: BatchLimits, log: Log
    ) -> None:
        self._sender = sender
        self._resource = wire.embedded(wire.RESOURCE, resource)
        self._scope = wire.embedded(wire.SCOPE, scope)
        self._limits = limits
        self._log = log
        self._queue: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._overflown = 0  # written by the loop only, as _refused and exported are by the thread
        self._refused = 0
        self.exported = 0
        self._thread = threading.Thread(target=self._run, name="span-exporter", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans given up so far: no room in the queue, or the collector refused them or was away for long."""
        return self._overflown + self._refused

    def add(self, spans: Sequence[bytes]) -> None:
        """Queue encoded ``spans`` fields of ``ScopeSpans``, or give them up if there is no room."""
        queue = self._queue
        if len(queue) + len(spans) > self._limits.queue:
            self._overflown += len(spans)
            return
        queue.extend(spans)
        if len(queue) >= self._limits.batch and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float) -> None:
        """Send what waits, for at most ``timeout`` seconds; count the rest as dropped."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        self._overflown += len(self._queue)

    def _run(self) -> None:
        while not self._closing.is_set():
            full = self._wake.wait(self._limits.delay)
            self._wake.clear()
            self._send(least=self._limits.batch if full and not self._closing.is_set() else 1)
        self._sender.close()

    def _send(self, *, least: int) -> None:
        """Send what waits now, as long as ``least`` spans are left."""
        queue = self._queue
        left = len(queue)
        while left >= least:
            size = min(left, self._limits.batch)
            left -= size
            self._export([queue.popleft() for _ in range(size)])

    def _export(self, spans: list[bytes]) -> None:
        body = self._request(spans)
        try:
            answer = self._send_patiently(body)
        except (Rejected, Unavailable) as error:
            self._refused += len(spans)
            self._report(str(error))
            return
        refused = min(_refused_spans(answer), len(spans))
        self._refused += refused
        self.exported += len(spans) - refused
        self._report("")

    def _request(self, spans: list[bytes]) -> bytes:
        """An encoded ``ExportTraceServiceRequest``."""
        scope_spans = wire.embedded(wire.SCOPE_SPANS, self._scope + b"".join(spans))
        return wire.embedded(wire.RESOURCE_SPANS, self._resource + scope_spans)

    def _send_patiently(self, body: bytes) -> bytes:
        """Send, again with growing delays while the collector is away; when closing, once."""
        deadline = time.monotonic() + self._limits.timeout
        backoff = _FIRST_BACKOFF
        while True:
            try:
                return self._sender.send(body)
            except Unavailable as error:
                delay = error.retry_after or backoff * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                if time.monotonic() + delay > deadline or self._closing.wait(delay):
                    raise
                self._report(str(error))
                backoff = min(backoff * 2, _MAX_BACKOFF)

    def _report(self, trouble: str) -> None:
        """Log the change from working to failing and back, not every failure."""
        if trouble and not self._failing:
            self._log.warning("span_export_failing", error=trouble)
        elif self._failing and not trouble:
            self._log.info("span_export_recovered", dropped=self.dropped)
        self._failing = bool(trouble)


def _refused_spans(answer: bytes) -> int:
    """Spans that the collector did not take although it answered with success."""
    if not answer:
        return 0
    try:
        return ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
    except DecodeError:
        return 0
