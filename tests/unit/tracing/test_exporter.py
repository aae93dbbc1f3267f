"""Exporting to a real receiver, and to ones that are dead, slow, refusing or a black hole."""

from __future__ import annotations

import socket
import time

import pytest

from sidecar.log import Log
from sidecar.otlp import Target, traces_target
from sidecar.tracing import exporter as exporter_module
from sidecar.tracing.exporter import BatchExporter, BatchLimits
from sidecar.tracing.record import SpanRecord
from sidecar.tracing.tracer import Tracer, start_tracer
from tests.support.collector import grpc_collector, http_collector
from tests.unit.tracing.test_spans import attempt, attributes, exchange


class Memory:
    """A log that remembers."""

    def __init__(self):
        self.events = []

    def warning(self, event, **fields):
        self.events.append((event, fields))

    info = warning


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def tracer_for(url, log=None, **environ):
    target = traces_target({"OTEL_EXPORTER_OTLP_ENDPOINT": url} | environ)
    return start_tracer(target, service="requests", version="1.2.3", environ=environ, log=log or Memory())


def test_spans_arrive_with_their_resource_and_scope(monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod,team=pay")
    with http_collector() as collector:
        tracer = tracer_for(collector.url)
        record = exchange()
        record.attempts.append(attempt(record))
        tracer.exchange(record)
        tracer.close(5)
        (request,) = collector.traces
        (resource_spans,) = request.resource_spans
        (scope_spans,) = resource_spans.scope_spans
        assert (scope_spans.scope.name, scope_spans.scope.version) == ("sidecar", "1.2.3")
        resource = attributes(resource_spans.resource)
        assert resource["service.name"] == "requests"
        assert resource["deployment.environment"] == "prod"
        assert resource["team"] == "pay"
        assert [span.name for span in collector.spans] == ["GET /api/v1/requests/{id}", "GET"]
        assert (tracer.exporter.exported, tracer.exporter.dropped) == (2, 0)


def test_headers_and_compression_are_as_configured():
    with http_collector() as collector:
        tracer = tracer_for(
            collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=pay%20ments",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        )
        tracer.exchange(exchange())
        tracer.close(5)
        assert collector.headers[0]["x-tenant"] == "pay ments"
        assert collector.headers[0]["content-type"] == "application/x-protobuf"
        assert len(collector.spans) == 1


def test_a_user_in_the_url_is_sent_as_credentials():
    with http_collector() as collector:
        tracer = tracer_for(collector.url.replace("http://", "http://user:p%40ss@"))
        tracer.exchange(exchange())
        tracer.close(5)
        assert collector.headers[0]["authorization"] == "Basic dXNlcjpwQHNz"


def test_a_full_batch_is_sent_at_once_and_the_rest_waits():
    with http_collector() as collector:
        tracer = tracer_for(
            collector.url, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10", OTEL_BSP_SCHEDULE_DELAY="600000"
        )
        for _ in range(25):
            tracer.exchange(exchange())
        until(lambda: len(collector.spans) == 20)
        tracer.close(5)
        assert len(collector.spans) == 25
        assert max(len(r.resource_spans[0].scope_spans[0].spans) for r in collector.traces) == 10


def test_an_incomplete_batch_is_sent_after_the_delay():
    with http_collector() as collector:
        tracer = tracer_for(collector.url, OTEL_BSP_SCHEDULE_DELAY="20")
        tracer.exchange(exchange())
        until(lambda: len(collector.spans) == 1)
        tracer.close(5)


def test_spans_of_other_kinds_go_the_same_way():
    with http_collector() as collector:
        tracer = tracer_for(collector.url)
        tracer.span(SpanRecord("publish", "producer", "ab" * 16, "cd" * 8, "", 1, 2))
        tracer.close(5)
        assert [span.name for span in collector.spans] == ["publish"]


def test_the_connection_is_kept_and_replaced_when_the_collector_closes_it():
    with http_collector() as collector:
        tracer = tracer_for(collector.url, OTEL_BSP_SCHEDULE_DELAY="10")
        for number in range(3):
            collector.answer_headers = {"Connection": "close"} if number == 1 else {}
            tracer.exchange(exchange())
            until(lambda expected=number + 1: len(collector.spans) == expected)
        tracer.close(5)
        assert tracer.exporter.dropped == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_away_for_a_moment_costs_nothing(status, monkeypatch):
    monkeypatch.setattr(exporter_module, "_FIRST_BACKOFF", 0.01)
    log = Memory()
    with http_collector() as collector:
        collector.answers = [status, status]
        tracer = tracer_for(collector.url, log, OTEL_BSP_SCHEDULE_DELAY="10")
        tracer.exchange(exchange())
        until(lambda: len(collector.spans) == 1)
        tracer.close(5)
        assert (tracer.exporter.exported, tracer.exporter.dropped) == (1, 0)
    assert [event for event, _ in log.events] == ["span_export_failing", "span_export_recovered"]


def test_a_collectors_wish_to_wait_is_followed_within_the_timeout():
    with http_collector() as collector:
        collector.answers, collector.answer_headers = [503], {"Retry-After": "100"}
        tracer = tracer_for(collector.url, OTEL_BSP_SCHEDULE_DELAY="10", OTEL_BSP_EXPORT_TIMEOUT="500")
        tracer.exchange(exchange())
        until(lambda: tracer.exporter.dropped == 1)
        tracer.close(5)
        assert collector.spans == []


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_the_collector_refuses_is_dropped_and_told_once(status):
    log = Memory()
    with http_collector() as collector:
        collector.answers = [status] * 3
        tracer = tracer_for(collector.url, log, OTEL_BSP_SCHEDULE_DELAY="10")
        for number in range(3):
            tracer.exchange(exchange())
            until(lambda expected=number + 1: tracer.exporter.dropped == expected)
        tracer.close(5)
    ((event, fields),) = log.events
    assert event == "span_export_failing"
    assert str(status) in fields["error"]


def test_spans_that_the_collector_did_not_take_are_counted():
    with http_collector() as collector:
        collector.refuse = 3
        tracer = tracer_for(collector.url)
        for _ in range(5):
            tracer.exchange(exchange())
        tracer.close(5)
        assert (tracer.exporter.exported, tracer.exporter.dropped) == (2, 3)


def test_a_queue_that_is_full_drops_and_never_waits():
    with http_collector() as collector:
        collector.hold.set()
        tracer = tracer_for(collector.url, OTEL_BSP_MAX_QUEUE_SIZE="100")
        started = time.monotonic()
        for _ in range(2000):
            tracer.exchange(exchange())
        assert time.monotonic() - started < 2
        assert tracer.exporter.dropped >= 1700
        assert len(tracer.exporter._queue) <= 100
        started = time.monotonic()
        tracer.close(0.2)
        assert time.monotonic() - started < 1


def test_nobody_listening_costs_neither_time_nor_memory_nor_the_exit():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = Memory()
    tracer = tracer_for(f"http://127.0.0.1:{port}", log, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10")
    for _ in range(5000):
        tracer.exchange(exchange())
    assert len(tracer.exporter._queue) <= 2048
    started = time.monotonic()
    tracer.close(3)
    assert time.monotonic() - started < 2.5
    assert tracer.exporter.dropped == 5000
    assert log.events[0][0] == "span_export_failing"


def test_a_black_hole_does_not_hold_up_the_exit():
    with socket.create_server(("127.0.0.1", 0), backlog=1) as hole:
        tracer = tracer_for(f"http://127.0.0.1:{hole.getsockname()[1]}")
        tracer.exchange(exchange())
        started = time.monotonic()
        tracer.close(0.2)
        assert time.monotonic() - started < 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 banana\r\n\r\n", b"", b"\x00" * 100])
def test_an_answer_that_is_no_http_is_a_failure_like_any_other(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        tracer = tracer_for(
            f"http://127.0.0.1:{server.getsockname()[1]}",
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_EXPORT_TIMEOUT="100",
        )
        tracer.exchange(exchange())
        peer, _ = server.accept()
        with peer:
            peer.settimeout(5)
            peer.recv(65_536)
            peer.sendall(answer)
        until(lambda: tracer.exporter.dropped == 1)
        tracer.close(1)


def test_an_answer_that_decodes_to_nothing_is_taken_for_success():
    class Odd:
        def send(self, body):
            return b"\xff\xff\xff"

        def close(self):
            pass

    exporter = BatchExporter(Odd(), resource=b"", scope=b"", limits=BatchLimits(), log=Memory())
    Tracer(exporter).exchange(exchange())
    exporter.close(5)
    assert (exporter.exported, exporter.dropped) == (1, 0)


def test_limits_come_from_the_standard_variables():
    assert BatchLimits.from_environment({}) == BatchLimits(2048, 512, 5.0, 30.0)
    assert BatchLimits.from_environment(
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "500",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
            "OTEL_BSP_EXPORT_TIMEOUT": "2000",
        }
    ) == BatchLimits(queue=100, batch=100, delay=1.0, timeout=2.0)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "²"])
def test_a_limit_that_is_no_positive_integer_is_a_mistake(value):
    with pytest.raises(ValueError, match="OTEL_BSP_MAX_QUEUE_SIZE is a positive integer"):
        BatchLimits.from_environment({"OTEL_BSP_MAX_QUEUE_SIZE": value})


def test_spans_arrive_over_grpc():
    with grpc_collector() as collector:
        tracer = tracer_for(
            collector.url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_HEADERS="X-Tenant=pay"
        )
        tracer.exchange(exchange())
        tracer.close(5)
        assert len(collector.spans) == 1
        assert collector.headers[0]["x-tenant"] == "pay"


@pytest.mark.parametrize(("code", "kept"), [(14, True), (3, False)], ids=["UNAVAILABLE", "INVALID_ARGUMENT"])
def test_grpc_statuses_decide_about_another_try(code, kept, monkeypatch):
    monkeypatch.setattr(exporter_module, "_FIRST_BACKOFF", 0.01)
    with grpc_collector() as collector:
        collector.answers = [code]
        tracer = tracer_for(
            collector.url,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_BSP_SCHEDULE_DELAY="10",
        )
        tracer.exchange(exchange())
        until(lambda: tracer.exporter.exported + tracer.exporter.dropped == 1)
        tracer.close(5)
        assert tracer.exporter.exported == kept


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_certificate_that_is_not_there_is_a_mistake(protocol):
    target = Target(url="https://c:4318/v1/traces", certificate="/nowhere.pem", grpc=protocol == "grpc")
    with pytest.raises(ValueError, match="certificate"):
        start_tracer(target, service="s", version="1", environ={}, log=Log(service="s"))
