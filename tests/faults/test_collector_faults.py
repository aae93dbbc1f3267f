"""A collector that is missing, slow, refusing or a black hole costs spans, never requests or the exit."""

from __future__ import annotations

import socket
import time
from contextlib import closing, contextmanager

import pytest

from tests.support.collector import http_collector
from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.waiting import eventually

REQUESTS = 600


@contextmanager
def missing():
    """Nobody listens."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def black_hole():
    """The kernel takes the connection and what is sent; nobody ever answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=16)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refusing():
    """Every batch is told that something else was expected."""
    with http_collector() as collector:
        collector.answers = [400] * 10_000
        yield collector.url


@contextmanager
def overloaded():
    """Every batch is told to come back in a minute."""
    with http_collector() as collector:
        collector.answers = [503] * 10_000
        collector.answer_headers = {"Retry-After": "60"}
        yield collector.url


@contextmanager
def slow():
    """Batches are read, and not answered for as long as the test lasts."""
    with http_collector() as collector:
        collector.hold.set()
        yield collector.url


@pytest.mark.parametrize(
    "trouble", [missing, black_hole, refusing, overloaded, slow], ids=lambda it: it.__name__
)
def test_it_costs_spans_and_nothing_else(start_sidecar, upstream, trouble):
    with trouble() as url:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_MAX_QUEUE_SIZE": "256",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}), env=env)
        with sidecar.client() as client:
            client.request("GET", "/")
            before = sidecar.resident_bytes()
            slowest = 0.0
            for _ in range(REQUESTS):
                began = time.monotonic()
                assert client.request("GET", "/").status == 200
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1  # no request waits for a batch: those are tried for ten seconds and more
        dropped = eventually(lambda: sidecar.metric("otel_spans_dropped_total"), "spans are dropped")
        assert dropped >= 2 * REQUESTS - 256 - 2 * 64 or trouble is refusing
        assert sidecar.metric("otel_spans_exported_total") == 0
        assert sidecar.resident_bytes() < before + 8 * 2**20
        began = time.monotonic()
        assert sidecar.stop() == 0
        assert time.monotonic() - began < 5
        told = [line["event"] for line in sidecar.logs() if line["event"].endswith("_failing")]
        assert len(told) == len(set(told))  # once, not for every batch


def test_spans_go_out_again_when_the_collector_is_back(start_sidecar, upstream):
    port = free_port()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}), env=env)
    with sidecar.client() as client:
        client.request("GET", "/", "X-Correlation-ID: before")
        sidecar.wait_log(lambda line: line["event"] == "span_export_failing", "the failure is told")
        with http_collector(port) as collector:
            eventually(lambda: len(collector.spans) == 2, "what has waited has arrived")
            client.request("GET", "/", "X-Correlation-ID: after")
            eventually(lambda: len(collector.spans) == 4, "and what came later")
            assert sidecar.metric("otel_spans_dropped_total") == 0
            sidecar.wait_log(lambda line: line["event"] == "span_export_recovered", "the recovery is told")


def test_what_waits_is_sent_before_the_exit(start_sidecar, upstream):
    with http_collector() as collector:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}), env=env)
        with sidecar.client() as client:
            client.request("GET", "/")
        assert sidecar.stop() == 0
        assert len(collector.spans) == 2
        (last,) = collector.metrics  # the figures too, long before their minute is over
        names = {metric.name for metric in last.resource_metrics[0].scope_metrics[0].metrics}
        assert "http_requests_total" in names
