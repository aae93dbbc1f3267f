"""init_tracing, with_span, add_span_attributes and TracingMiddleware on the real SDK."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from sidecar.correlation.middleware import CorrelationMiddleware
from sidecar.tracing.library import add_span_attributes, init_tracing, with_span
from sidecar.tracing.middleware import TracingMiddleware
from tests.support.collector import http_collector
from tests.unit.tracing.test_spans import PARENT, TRACE, attributes


@pytest.fixture(autouse=True)
def _fresh_opentelemetry(monkeypatch):
    """The SDK sets its provider once per process; each test begins without one."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())


@pytest.fixture
def finished():
    exporter = InMemorySpanExporter()
    provider = init_tracing("requests-service")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter.get_finished_spans


@pytest.mark.parametrize("path", ["", "/", "/v1/traces"])
def test_spans_reach_the_endpoint_and_no_path_is_doubled(path):
    with http_collector() as collector:
        provider = init_tracing(
            "requests-service",
            service_version="1.0.0",
            environment="production",
            exporter_endpoint=collector.url + path,
        )
        with with_span("work"):
            pass
        provider.shutdown()
        (request,) = collector.traces
        resource = attributes(request.resource_spans[0].resource)
        assert resource["service.name"] == "requests-service"
        assert resource["service.version"] == "1.0.0"
        assert resource["deployment.environment.name"] == "production"
        assert [span.name for span in collector.spans] == ["work"]


def test_the_second_call_gives_back_the_first():
    assert init_tracing("a") is init_tracing("b")


def test_an_endpoint_that_is_no_url_is_a_mistake():
    with pytest.raises(ValueError, match="http or https"):
        init_tracing("a", exporter_endpoint="jaeger:4318")


def test_a_block_is_a_span(finished):
    with with_span("outer", kind="test") as span, with_span("inner"):
        add_span_attributes({"deep": True})
    span.set_attribute("late", 1)
    inner, outer = finished()
    assert (inner.name, outer.name) == ("inner", "outer")
    assert inner.parent.span_id == outer.context.span_id
    assert dict(outer.attributes) == {"kind": "test"}
    assert dict(inner.attributes) == {"deep": True}


async def test_an_async_block_is_a_span(finished):
    async with with_span("work") as span:
        assert trace.get_current_span() is span
    assert [one.name for one in finished()] == ["work"]


def test_a_decorated_function_gets_a_span_per_call(finished):
    @with_span("add", unit="s")
    def add(a, b=1):
        return a + b

    assert add(1) == 2
    assert add(1, b=2) == 3
    assert [one.name for one in finished()] == ["add", "add"]


async def test_a_decorated_coroutine_gets_a_span_while_it_runs(finished):
    @with_span("work")
    async def work():
        add_span_attributes({"inside": 1})
        return "done"

    assert await work() == "done"
    (span,) = finished()
    assert span.attributes["inside"] == 1


async def test_errors_are_recorded_and_go_on(finished):
    @with_span("sync")
    def sync():
        raise ValueError("broken")

    @with_span("coroutine")
    async def coroutine():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        sync()
    with pytest.raises(ValueError, match="broken"):
        await coroutine()
    with pytest.raises(ValueError, match="broken"), with_span("block"):
        raise ValueError("broken")
    for span in finished():
        assert span.status.status_code is StatusCode.ERROR
        assert span.events[0].attributes["exception.message"] == "broken"


def test_a_scope_is_entered_once():
    scope = with_span("work")
    with scope:
        pass
    with pytest.raises(RuntimeError, match="begun already"), scope:
        pass


def test_generators_are_refused():
    def items():
        yield 1

    with pytest.raises(TypeError, match="generator"):
        with_span("work")(items)


def test_without_init_nothing_happens():
    with with_span("work") as span:
        add_span_attributes({"a": 1})
    assert not span.is_recording()


async def hello(_request):
    return PlainTextResponse("hello")


async def fail(_request):
    return PlainTextResponse("no", status_code=503)


async def crash(_request):
    raise OSError("broken")


async def talk(websocket):
    await websocket.accept()
    await websocket.close()


def client():
    routes = [
        Route("/orders/{id}", hello, methods=["GET", "PROPFIND"]),
        Route("/fail", fail),
        Route("/crash", crash),
        WebSocketRoute("/ws", talk),
    ]
    app = CorrelationMiddleware(TracingMiddleware(Starlette(routes=routes)))
    return TestClient(app, raise_server_exceptions=False)


def test_a_request_is_a_span_below_its_callers(finished):
    client().get(
        "/orders/17?token=secret",
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Correlation-ID": "corr-1"},
    )
    (span,) = finished()
    assert (span.name, span.kind) == ("GET /orders/{id}", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/orders/{id}",
        "http.response.status_code": 200,
        "url.path": "/orders/17",
        "url.query": "token=***",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "testclient",
        "correlation.id": "corr-1",
    }


@pytest.mark.parametrize(("path", "route", "error"), [("/fail", "/fail", "503"), ("/nowhere", "", None)])
def test_the_status_shows(finished, path, route, error):
    client().get(path)
    (span,) = finished()
    assert span.name == f"GET {route}".rstrip()
    assert span.attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) is bool(error)


def test_a_crash_is_an_error(finished):
    client().get("/crash")
    (span,) = finished()
    assert span.status.status_code is StatusCode.ERROR


def test_methods_that_are_not_known_are_other(finished):
    client().request("PROPFIND", "/orders/1")
    (span,) = finished()
    assert span.name == "HTTP /orders/{id}"
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "PROPFIND"


def test_repeated_fields_are_joined(finished):
    headers = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1"), ("tracestate", "b=2")]
    client().get("/orders/1", headers=headers)
    (span,) = finished()
    assert span.context.trace_state.to_header() == "a=1,b=2"


async def test_a_scope_without_a_client_or_correlation_will_do(finished):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def ignore(message):
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "route": object()}
    await TracingMiddleware(app)(scope, None, ignore)
    (span,) = finished()
    assert span.name == "GET"
    assert "client.address" not in span.attributes


def test_websockets_and_the_lifespan_pass_through(finished):
    with client() as running, running.websocket_connect("/ws"):
        pass
    assert finished() == ()
    assert isinstance(trace.get_tracer_provider(), TracerProvider)
