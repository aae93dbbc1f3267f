"""The first page of dead letters, and one retry, in a queue of a million records, beside one of a hundred."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from redis import Redis

from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.peers import sidecar
from bench.processes import cpu_ns
from bench.servers import redis, upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers.sidecar import Sidecar

_CASE = "dead-letters"
_FEW = 200
_LIMIT = 1.25
_CALLS = 30
_RETRIES = 10
_QUEUE = "dlq:bench:HTTP_REQUEST"

# Written by the server itself, in the layout of the store: over the wire a million would take minutes.
_FILL = """
local from, to, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i = from, to do
  local id = string.format('r-%09d', i)
  redis.call('HSET', KEYS[1], id, (string.gsub(ARGV[4], 'ID', id)))
  redis.call('ZADD', KEYS[2], now + i, id)
end
return to
"""
_RECORD = {
    "v": 1,
    "id": "ID",
    "event_type": "HTTP_REQUEST",
    "status": "pending",
    "error": "refused",
    "reason": "connect_refused",
    "source_service": "bench",
    "correlation_id": "c",
    "trace_id": "",
    "idempotency_key": "",
    "first_failed_at": "2026-01-31T12:00:00Z",
    "last_failed_at": "2026-01-31T12:00:00Z",
    "stored_at": "2026-01-31T12:00:00Z",
    "replay_count": 0,
    "origin": {"kind": "upstream", "upstream": "app", "route": "default"},
    "attempts": [],
    "request": {"method": "POST", "target": "/orders", "headers": [["Host", "bench.local"]], "body": "{}"},
}
_BATCH = 10_000


def run(settings: Settings) -> list[Row]:
    """Two sidecars, each on a Redis of its own. What both need of the processor is what counts."""
    with Stage() as stage:
        port = upstream.start(stage)
        turns: dict[str, Callable[[], float]] = {}
        for name, records in (("few", _FEW), ("many", settings.records)):
            store = redis.start(stage, name=f"redis-{name}")
            _fill(store, records)
            proxy = sidecar.start(stage, port, name=name, store=f"redis://127.0.0.1:{store}")
            pids = (proxy.pid, _pid_of(store))
            turns[f"{name}, first page"] = partial(_page_us, proxy, pids)
            turns[f"{name}, retry"] = partial(_retry_us, proxy, pids)
        measured = take_turns(turns, settings.rounds)
    return [
        ratio_row(
            _CASE,
            f"{what} of {settings.records:,} dead letters, Redis included",
            "µs",
            ours=measured[f"many, {what}"],
            against=f"sidecar, {_FEW} dead letters",
            theirs=measured[f"few, {what}"],
            limit=_LIMIT,
        )
        for what in ("first page", "retry")
    ]


def _pid_of(store: int) -> int:
    with closing(Redis(port=store)) as client:
        pid: int = client.info("server")["process_id"]
    return pid


def _fill(store: int, records: int) -> None:
    now = int(time.time() * 1_000_000) - records
    with closing(Redis(port=store, socket_timeout=60)) as client:
        client.sadd("dlq:index", "bench:HTTP_REQUEST")
        for first in range(1, records + 1, _BATCH):
            last = min(first + _BATCH - 1, records)
            client.eval(_FILL, 2, _QUEUE, f"dlq-time:{{{_QUEUE}}}", first, last, now, json.dumps(_RECORD))


def _page_us(proxy: Sidecar, pids: tuple[int, ...]) -> float:
    """CPU microseconds for the newest fifty records."""
    began = sum(map(cpu_ns, pids))
    for _ in range(_CALLS):
        _call(proxy, "GET", "/admin/dlq/HTTP_REQUEST?limit=50")
    return (sum(map(cpu_ns, pids)) - began) / 1000 / _CALLS


def _retry_us(proxy: Sidecar, pids: tuple[int, ...]) -> float:
    """CPU microseconds until one of them is delivered and removed."""
    page = _call(proxy, "GET", f"/admin/dlq/HTTP_REQUEST?limit={_RETRIES}")
    began = sum(map(cpu_ns, pids))
    for record in page["items"]:
        _call(proxy, "POST", f"/admin/dlq/HTTP_REQUEST/{record['id']}/retry")
    return (sum(map(cpu_ns, pids)) - began) / 1000 / _RETRIES


def _call(proxy: Sidecar, method: str, path: str) -> dict[str, list[dict[str, str]]]:
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=60)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(f"expected 200 from {method} {path}, got {response.status}: {body[:300]!r}")
    content: dict[str, list[dict[str, str]]] = json.loads(body)
    return content
