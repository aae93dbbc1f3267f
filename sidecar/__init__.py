"""The sidecar as a library: the same cores that serve requests, for Python code that runs without it.

Importing this package pulls in no server and no driver; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sidecar.breaker.decorator import CircuitBreaker as CircuitBreaker
    from sidecar.breaker.decorator import CircuitOpenError as CircuitOpenError
    from sidecar.bulkhead.decorator import Bulkhead as Bulkhead
    from sidecar.correlation.middleware import CorrelationMiddleware as CorrelationMiddleware
    from sidecar.dlq.queue import DeadLetterQueue as DeadLetterQueue
    from sidecar.events.bus import ResilientEventBus as ResilientEventBus
    from sidecar.idempotency.memory import MemoryIdempotencyStore as MemoryIdempotencyStore
    from sidecar.idempotency.middleware import IdempotencyMiddleware as IdempotencyMiddleware
    from sidecar.idempotency.redis import RedisIdempotencyStore as RedisIdempotencyStore
    from sidecar.log.structured import create_logger as create_logger
    from sidecar.metrics.library import init_metrics as init_metrics
    from sidecar.metrics.middleware import MetricsMiddleware as MetricsMiddleware
    from sidecar.resilient import resilient as resilient
    from sidecar.retry.decorator import Retry as Retry
    from sidecar.retry.decorator import retry_with_backoff as retry_with_backoff
    from sidecar.tracing.library import add_span_attributes as add_span_attributes
    from sidecar.tracing.library import init_tracing as init_tracing
    from sidecar.tracing.library import with_span as with_span
    from sidecar.tracing.middleware import TracingMiddleware as TracingMiddleware

_HOMES: Final = {
    "Bulkhead": "sidecar.bulkhead.decorator",
    "CircuitBreaker": "sidecar.breaker.decorator",
    "CircuitOpenError": "sidecar.breaker.decorator",
    "CorrelationMiddleware": "sidecar.correlation.middleware",
    "DeadLetterQueue": "sidecar.dlq.queue",
    "IdempotencyMiddleware": "sidecar.idempotency.middleware",
    "MemoryIdempotencyStore": "sidecar.idempotency.memory",
    "MetricsMiddleware": "sidecar.metrics.middleware",
    "RedisIdempotencyStore": "sidecar.idempotency.redis",
    "ResilientEventBus": "sidecar.events.bus",
    "Retry": "sidecar.retry.decorator",
    "TracingMiddleware": "sidecar.tracing.middleware",
    "add_span_attributes": "sidecar.tracing.library",
    "create_logger": "sidecar.log.structured",
    "init_metrics": "sidecar.metrics.library",
    "init_tracing": "sidecar.tracing.library",
    "resilient": "sidecar.resilient",
    "retry_with_backoff": "sidecar.retry.decorator",
    "with_span": "sidecar.tracing.library",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its home (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sidecar' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value
