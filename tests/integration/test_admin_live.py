"""The live figures: a stream that shows what happens, is bounded in number, and holds nothing up."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager

import httpx

from tests.support.upstream import Do, Reply, answer
from tests.support.waiting import PATIENCE, eventually

MOST_STREAMS = 16


@contextmanager
def live(sidecar):
    """The events of one stream, decoded."""
    with httpx.stream("GET", sidecar.admin + "/admin/live", timeout=PATIENCE, trust_env=False) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        lines = response.iter_lines()
        yield (json.loads(line.removeprefix("data: ")) for line in lines if line)


def until(events, wanted):
    """The first event that is wanted."""
    return next(event for event, _ in zip(events, range(10), strict=False) if wanted(event))


def test_figures_follow_the_traffic(sidecar, upstream):
    upstream.replies["/bad"] = Reply((answer(status="500 Oops"),))
    with live(sidecar) as events, sidecar.client() as client:
        first = next(events)
        assert first["latency_ms"] == {"p50": None, "p90": None, "p99": None}
        assert (first["ready"], first["draining"], first["service"]) == (True, False, "sidecar")
        for _ in range(20):
            client.request("GET", "/good")
        for _ in range(5):
            client.request("GET", "/bad")
        seen = until(
            events, lambda event: event["upstreams"][0]["hosts"][0]["breaker"]["counts"]["calls"] == 25
        )
        assert seen["requests_per_second"] > 0
        assert seen["errors_per_second"] > 0
        assert seen["by_status"].keys() == {"2xx", "5xx"}
        assert 0 < seen["latency_ms"]["p50"] <= seen["latency_ms"]["p90"] <= seen["latency_ms"]["p99"]


def test_breakers_and_keys_are_shown(sidecar, upstream):
    upstream.reply = Reply((Do.RESET,))
    with sidecar.client() as client:
        client.request("POST", "/pay", "Idempotency-Key: a", body=b"x")
    sidecar.ask("PUT", "/admin/upstreams/app/breaker", json={"mode": "forced_open", "for": "1m"})
    with live(sidecar) as events:
        event = next(events)
    assert (event["keys"]["unknown"], event["keys"]["in_progress"]) == (1, 0)
    assert event["keys"]["counted_at"]
    assert event["upstreams"][0]["hosts"][0]["breaker"]["state"] == "open"


def test_there_are_only_so_many_streams(sidecar):
    with ExitStack() as stack:
        for _ in range(MOST_STREAMS):
            next(stack.enter_context(live(sidecar)))
        refused = sidecar.get("/admin/live")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "TOO_MANY_VIEWERS")
        assert sidecar.get("/admin/status").status_code == 200

    def one_more():
        with httpx.stream(
            "GET", sidecar.admin + "/admin/live", timeout=PATIENCE, trust_env=False
        ) as response:
            return response.status_code == 200

    eventually(one_more, "the places are free again")


def test_a_stream_that_is_open_holds_up_no_stop(sidecar):
    with live(sidecar) as events:
        next(events)
        started = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - started < 1.0
        assert list(events) == []
