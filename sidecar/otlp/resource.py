"""Who is talking: the resource that spans and metrics are exported under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.sdk import resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Attribute = str | bool | int | float
SCOPE_NAME: Final = "sidecar"


def resource_of(service: str) -> Resource:
    """The resource, as the SDK puts it together.

    ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` are read by the SDK; a service name given there has
    become ``service`` before.
    """
    found = resources.Resource.create({"service.name": service})
    known: Mapping[str, Any] = found.attributes
    return Resource(attributes=attributes(known))


def scope_of(version: str) -> InstrumentationScope:
    """The instrumentation scope of all telemetry."""
    return InstrumentationScope(name=SCOPE_NAME, version=version)


def attribute(name: str, value: Attribute | Sequence[Attribute]) -> KeyValue:
    """One attribute as a message."""
    return KeyValue(key=name, value=_any_value(value))


def attributes(values: Mapping[str, Attribute | Sequence[Attribute]]) -> list[KeyValue]:
    """Attributes as messages."""
    return [attribute(name, value) for name, value in values.items()]


def _any_value(value: Attribute | Sequence[Attribute]) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
