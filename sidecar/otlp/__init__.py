"""OTLP, the OpenTelemetry protocol: where spans and metrics go, and how they get there."""

from __future__ import annotations

from sidecar.otlp.sender import Rejected, Sender, Unavailable, open_sender
from sidecar.otlp.target import Target, metrics_target, traces_target

__all__ = [
    "Rejected",
    "Sender",
    "Target",
    "Unavailable",
    "metrics_target",
    "open_sender",
    "traces_target",
]
