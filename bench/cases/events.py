"""What an event costs: published over the admin port into Redis, and delivered from there to a service."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from typing import TYPE_CHECKING

from redis import Redis

from bench.cases.common import ORDER
from bench.figures import Row, value_row
from bench.harness import Settings, Stage, take_turns
from bench.load import Recipe, http_request, measure
from bench.peers import sidecar
from bench.processes import cpu_ns
from bench.servers import redis, upstream

if TYPE_CHECKING:
    from bench.peers.sidecar import Sidecar

_CASE = "events"
_PUBLISH_US = 200  # 5,000 events a second on one core
_DELIVER_US = 500  # 2,000 of them
_AT_ONCE = 64
_BACKLOG = 10_000
_POLL_SECONDS = 0.05
# The admin port answers to no name that could be pointed elsewhere.
_PUBLISH = http_request("POST", "/events/PUBLISHED", body=ORDER).replace(b"bench.local", b"127.0.0.1")
_ACCEPTED = Recipe(_PUBLISH, 202, len('{"id":""}') + 36)
_EVENT = {"source": "/bench", "type": "ORDERED", "specversion": "1.0", "datacontenttype": "application/json"}


def run(settings: Settings) -> list[Row]:
    """One sidecar; nobody subscribes to what is published, so that each figure is of one thing."""
    with Stage() as stage:
        port = upstream.start(stage)
        store = redis.start(stage)
        subscription = {"type": "ORDERED", "upstream": "app", "path": "/orders", "concurrency": _AT_ONCE}
        proxy = sidecar.start(
            stage,
            port,
            store=f"redis://127.0.0.1:{store}",
            events={"subscriptions": [subscription]},
        )

        def publish() -> float:
            connections, seconds = settings.connections, settings.seconds
            return measure(
                proxy.admin_port, _ACCEPTED, proxy.pid, connections=connections, seconds=seconds
            ).cpu_us

        measured = take_turns(
            {"publish": publish, "deliver": lambda: _deliver(proxy, store)}, settings.rounds
        )
    return [
        value_row(_CASE, "publish: CPU per event", "µs", measured["publish"], _PUBLISH_US),
        value_row(
            _CASE, f"deliver, {_AT_ONCE} at once: CPU per event", "µs", measured["deliver"], _DELIVER_US
        ),
    ]


def _deliver(proxy: Sidecar, store: int) -> float:
    """CPU microseconds of the sidecar per event of a backlog."""
    with closing(Redis(port=store)) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(_BACKLOG):
            pipeline.xadd("events:ORDERED", {**_EVENT, "id": f"{time.time_ns()}-{number}", "data": ORDER})
        began = cpu_ns(proxy.pid)
        pipeline.execute()
    while _left(proxy):
        time.sleep(_POLL_SECONDS)
    return (cpu_ns(proxy.pid) - began) / 1000 / _BACKLOG


def _left(proxy: Sidecar) -> int:
    """Events that are not acknowledged."""
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=5)) as connection:
        connection.request("GET", "/admin/subscriptions")
        (subscription,) = json.load(connection.getresponse())["items"]
    left: int = subscription["lag"] + subscription["pending"]
    return left
