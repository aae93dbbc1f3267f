"""The tracer of a process: the sampler, the encoder and the exporter as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.otlp.resource import resource_of, scope_of
from sidecar.otlp.sender import open_sender
from sidecar.tracing.exporter import BatchExporter, BatchLimits
from sidecar.tracing.spans import SpanEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.log import Log
    from sidecar.otlp.target import Target
    from sidecar.tracing.facts import ExchangeRecord
    from sidecar.tracing.record import SpanRecord


class Tracer:
    """Takes records of what has ended and sees to it that they reach the collector as spans.

    This module pulls in opentelemetry and protobuf; it is imported only where an endpoint is configured.
    """

    __slots__ = ("_encoder", "exporter")

    def __init__(self, exporter: BatchExporter) -> None:
        self._encoder = SpanEncoder()
        self.exporter = exporter

    def exchange(self, record: ExchangeRecord) -> None:
        """Export the spans of a sampled exchange. Called once, when it has ended, on the loop."""
        self.exporter.add(self._encoder.exchange(record))

    def span(self, record: SpanRecord) -> None:
        """Export a span of another kind."""
        self.exporter.add((self._encoder.span(record),))

    def close(self, timeout: float) -> None:
        """Send what waits, for at most ``timeout`` seconds."""
        self.exporter.close(timeout)


def start_tracer(
    target: Target, *, service: str, version: str, environ: Mapping[str, str], log: Log
) -> Tracer:
    """A tracer that exports to ``target``; starts its thread, so call it after any fork.

    Raises:
        ValueError: ``target`` or an ``OTEL_BSP_*`` variable cannot be followed.
    """
    exporter = BatchExporter(
        open_sender(target, "TraceService"),
        resource=resource_of(service).SerializeToString(),
        scope=scope_of(version).SerializeToString(),
        limits=BatchLimits.from_environment(environ),
        log=log,
    )
    return Tracer(exporter)
