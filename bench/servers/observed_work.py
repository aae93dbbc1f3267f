"""What observing one unsampled request adds to it, in a process of its own; prints CPU microseconds as JSON.

``began``, ``continued``: its trace begins here, or goes on, and is written into the head for the upstream.
``metrics``: all cells that a request with a key moves that is sent upstream once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.servers.timing import microseconds
from sidecar.metrics.names import Metrics
from sidecar.metrics.outcomes import ATTEMPT_OUTCOMES, IDEMPOTENCY_RESULTS, STORE_OPERATIONS
from sidecar.metrics.registry import Registry
from sidecar.metrics.route import RouteMetrics
from sidecar.tracing.context import admit, begin
from sidecar.tracing.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.tracing.context import TraceContext

_FIELDS = b"X-Correlation-ID: 0192f0c1-ac96-774b-bcce-b302099a8057\r\n"
_CALLERS = (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",)
_SAMPLER = Sampler(0.0)


def _head(trace: TraceContext) -> bytes:
    return b"%btraceparent: %b\r\n" % (_FIELDS, trace.traceparent)


def _metrics() -> Callable[[], object]:
    metrics = Metrics(Registry(service="bench"), version="1")
    route = RouteMetrics(metrics, "default")
    attempts = metrics.upstream_attempts.children("outcome", ATTEMPT_OUTCOMES, upstream="app")
    results = metrics.idempotency_requests.children("result", IDEMPOTENCY_RESULTS, route="default")
    store = metrics.idempotency_store_seconds.children("op", STORE_OPERATIONS)

    def one_request() -> None:
        route.started()
        store["claim"].observe(0.000_2)
        attempts["success"].value += 1
        store["complete"].observe(0.000_2)
        results["executed"].value += 1
        route.ended(b"POST", 201, 12.5)

    return one_request


if __name__ == "__main__":
    figures = {
        "began": microseconds(lambda: _head(begin(_SAMPLER))),
        "continued": microseconds(lambda: _head(admit(_CALLERS, (), _SAMPLER))),
        "metrics": microseconds(_metrics()),
    }
    print(json.dumps(figures))
