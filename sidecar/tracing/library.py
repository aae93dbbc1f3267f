"""Tracing for Python services that run without the sidecar, on the OpenTelemetry SDK."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from sidecar.calling import decorate, is_async
from sidecar.otlp import traces_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

P = ParamSpec("P")
R = TypeVar("R")

_TRACER: Final = "sidecar"


def init_tracing(
    service_name: str,
    *,
    service_version: str = "",
    environment: str = "",
    exporter_endpoint: str | None = None,
) -> TracerProvider:
    """Set OpenTelemetry up for the process, and export to a collector if an endpoint is known.

    All standard ``OTEL_*`` variables are honoured. Later calls give back what the first has made.

    Args:
        service_name: ``service.name``.
        service_version: ``service.version``, unless empty.
        environment: ``deployment.environment.name``, unless empty.
        exporter_endpoint: The collector; ``/v1/traces`` is put behind it unless it is there. By default what
            the ``OTEL_EXPORTER_OTLP_*`` variables say.

    Raises:
        ValueError: The endpoint, or a variable, cannot be followed.
    """
    known = trace.get_tracer_provider()
    if isinstance(known, TracerProvider):
        return known
    attributes = {
        "service.name": service_name,
        "service.version": service_version,
        "deployment.environment.name": environment,
    }
    resource = Resource.create({name: value for name, value in attributes.items() if value})
    provider = TracerProvider(resource=resource)
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": exporter_endpoint} if exporter_endpoint else {}
    target = traces_target({**os.environ, **given})
    if target is not None:
        # Headers, timeouts and certificates are the exporter's business: it reads the same variables.
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=target.url)))
    trace.set_tracer_provider(provider)
    return provider


def with_span(name: str, **attributes: AttributeValue) -> SpanScope:
    """A span around a block or around every call of a function.

    ::

        with with_span("process-request") as span: ...
        async with with_span("process-request", kind="import") as span: ...

        @with_span("process-request")
        async def process_request(request_id): ...

    An error that leaves it is recorded and marks the span as failed.
    """
    return SpanScope(name, attributes)


def add_span_attributes(attributes: Mapping[str, AttributeValue]) -> None:
    """Set attributes on the current span; without one, nothing happens."""
    trace.get_current_span().set_attributes(attributes)


class SpanScope:
    """What :func:`with_span` returns; to be entered once, or to decorate a function."""

    def __init__(self, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        self._name = name
        self._attributes = attributes
        self._entered: AbstractContextManager[Span] | None = None

    def __enter__(self) -> Span:
        if self._entered is not None:
            raise RuntimeError(f"the span {self._name!r} was begun already; ask with_span for another")
        self._entered = _start(self._name, self._attributes)
        return self._entered.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        self._entered.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``, plain or ``async``; every call gets a span of its own.

        Raises:
            TypeError: It is a generator function: the span would end before its work begins.
        """
        return decorate(self._execute, function)

    def _execute(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if is_async(function):
            return self._await(function(*args, **kwargs))
        with _start(self._name, self._attributes):
            return function(*args, **kwargs)

    async def _await(self, call: Awaitable[R]) -> R:
        with _start(self._name, self._attributes):
            return await call


def _start(name: str, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[Span]:
    return trace.get_tracer(_TRACER).start_as_current_span(name, attributes=dict(attributes))
