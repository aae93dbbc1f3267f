"""What the running process pulls in before a feature is configured."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "opentelemetry",
    "google.protobuf",
    "prometheus_client",
    "structlog",
    "grpc",
    "http.client",
    "requests",
}


@pytest.mark.parametrize(
    "module",
    [
        "sidecar.log",
        "sidecar.correlation",
        "sidecar.metrics",
        "sidecar.metrics.process",
        "sidecar.otlp",
        "sidecar.tracing.baggage",
        "sidecar.tracing.context",
        "sidecar.tracing.record",
        "sidecar.tracing.sampling",
    ],
)
def test_nothing_heavy_comes_with_it(module):
    code = f"import {module}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(loaded.split())
