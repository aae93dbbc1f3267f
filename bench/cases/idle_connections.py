"""What an idle keep-alive connection weighs, beside Envoy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.common import GET_HELLO
from bench.figures import Row, Spread
from bench.harness import Settings, Stage
from bench.idle import while_held
from bench.load import measure
from bench.peers import envoy, sidecar
from bench.processes import resident_bytes
from bench.servers import upstream

if TYPE_CHECKING:
    from bench.peers.base import Proxy

_LIMIT_KIB = 8
_WARM_UP_SECONDS = 1.0


def _kib_each(proxy: Proxy, settings: Settings) -> float:
    """Growth of resident memory per connection; the proxy has worked before, so its own buffers are there."""
    measure(proxy.port, GET_HELLO, proxy.pid, connections=settings.connections, seconds=_WARM_UP_SECONDS)
    before = resident_bytes(proxy.pid)
    count = settings.idle_connections
    after = while_held(proxy.port, GET_HELLO, count, lambda: resident_bytes(proxy.pid))
    return (after - before) / 1024 / count


def run(settings: Settings) -> list[Row]:
    """Each connection has had one request answered, as those have that a load balancer keeps open."""
    with Stage() as stage:
        port = upstream.start(stage)
        ours = Spread.of([_kib_each(sidecar.start(stage, port), settings)])
        theirs = Spread.of([_kib_each(envoy.start(stage, port), settings)])
    what = f"each of {settings.idle_connections:,} idle connections"
    return [Row("idle-connections", what, "KiB", ours, envoy.NAME, theirs, limit=_LIMIT_KIB)]
