"""Metrics for Python services that run without the sidecar."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from sidecar.metrics.names import Metrics
from sidecar.metrics.process import define_process_metrics
from sidecar.metrics.registry import Registry
from sidecar.otlp.target import metrics_target

if TYPE_CHECKING:
    from sidecar.metrics.otlp import MetricsExporter

_CLOSE_SECONDS: Final = 2.0
_made: dict[str, Metrics] = {}


def init_metrics(
    service_name: str, *, service_version: str = "", exporter_endpoint: str | None = None
) -> Metrics:
    """The metrics of the process, exported over OTLP if an endpoint is known.

    Later calls give back what the first has made.

    Args:
        service_name: The ``service`` label.
        service_version: Shown by ``build_info``.
        exporter_endpoint: The collector; ``/v1/metrics`` is put behind it unless it is there. By default what
            the ``OTEL_EXPORTER_*`` variables say.

    Raises:
        ValueError: The endpoint, or a variable, cannot be followed.
    """
    if "metrics" not in _made:
        registry = Registry(service=service_name)
        metrics = Metrics(registry, version=service_version)
        define_process_metrics(registry)
        _export(metrics, service_version, exporter_endpoint)
        _made["metrics"] = metrics
    return _made["metrics"]


def current_metrics() -> Metrics:
    """What :func:`init_metrics` has made.

    Raises:
        RuntimeError: It was not called.
    """
    try:
        return _made["metrics"]
    except KeyError:
        raise RuntimeError("call init_metrics(service_name) before the metrics are used") from None


def _export(metrics: Metrics, version: str, endpoint: str | None) -> None:
    given = {"OTEL_EXPORTER_METRICS_ENDPOINT": endpoint} if endpoint else {}
    environ = {**os.environ, **given}
    target = metrics_target(environ)
    if target is None:
        return
    from sidecar.log import Log  # noqa: PLC0415 - as the next
    from sidecar.metrics.otlp import open_metrics_exporter  # noqa: PLC0415 - pulls in protobuf

    service = metrics.registry.service
    exporter = open_metrics_exporter(
        target, service=service, version=version, environ=environ, log=Log(service=service, level="warning")
    )
    done = threading.Event()
    threading.Thread(target=_push, args=(exporter, metrics.registry, done), daemon=True).start()
    atexit.register(_close, exporter, metrics.registry, done)


def _push(exporter: MetricsExporter, registry: Registry, done: threading.Event) -> None:
    while not done.wait(exporter.interval):
        exporter.push(registry.snapshot())


def _close(exporter: MetricsExporter, registry: Registry, done: threading.Event) -> None:
    done.set()
    exporter.close(registry.snapshot(), _CLOSE_SECONDS)
