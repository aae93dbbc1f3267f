"""A collector to export to: a real OTLP receiver that decodes what it gets, and can misbehave."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.waiting import eventually


class Collector:
    """What was received, and how to answer.

    Attributes:
        traces: Decoded trace requests, in order of arrival.
        metrics: Decoded metrics requests.
        headers: The header fields of each request.
        paths: The path of each request.
        answers: Statuses for the next requests, 200 once they are used up.
        answer_headers: Sent with every answer.
        refuse: Spans that the next answers claim not to have taken.
        hold: While set, requests are read but not answered.
    """

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.answer_headers: dict[str, str] = {}
        self.refuse = 0
        self.hold = threading.Event()
        self.released = threading.Event()
        self.url = ""

    @property
    def spans(self) -> list:
        """All spans received."""
        return [
            span
            for request in list(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def services(self) -> dict[bytes, str]:
        """Who sent a span, by its span id: the ``service.name`` of its resource."""
        return {
            span.span_id: attribute.value.string_value
            for request in list(self.traces)
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def trace(self, trace_id: str, spans: int) -> list:
        """The spans of a trace in the order in which they began, once there are as many as ``spans``."""

        def found() -> list:
            return sorted(
                (span for span in self.spans if span.trace_id.hex() == trace_id),
                key=lambda span: span.start_time_unix_nano,
            )

        eventually(lambda: len(found()) >= spans, f"{spans} span(s) of {trace_id}")
        return found()

    def take(self, path: str, body: bytes) -> bytes:
        """Decode a request; the encoded answer."""
        if path.endswith("/v1/metrics"):
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
            return b""
        self.traces.append(ExportTraceServiceRequest.FromString(body))
        if not self.refuse:
            return b""
        partial = ExportTracePartialSuccess(rejected_spans=self.refuse)
        return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: Collector

    def do_POST(self) -> None:
        collector = self.collector
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        collector.headers.append({name.lower(): value for name, value in self.headers.items()})
        collector.paths.append(self.path)
        if collector.hold.is_set():
            collector.released.wait(30)
        status = collector.answers.pop(0) if collector.answers else 200
        answer = collector.take(self.path, body) if status == 200 else b"no"
        self.send_response(status)
        for name, value in collector.answer_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def http_collector(port: int = 0):
    """A collector for OTLP over HTTP on loopback; ``url`` is its base."""
    collector = Collector()
    handler = type("Handler", (_Handler,), {"collector": collector})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def attributes(span) -> dict[str, object]:
    """The attributes of a span as Python's values."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@contextmanager
def grpc_collector():
    """A collector for OTLP over gRPC on loopback."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    import grpc  # noqa: PLC0415 - starts threads of its own

    collector = Collector()

    def export(body: bytes, context) -> bytes:
        collector.headers.append(dict(context.invocation_metadata()))
        if collector.answers:
            context.abort(list(grpc.StatusCode)[collector.answers.pop(0)], "told to")
        return collector.take("/v1/traces", body)

    service = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(export)},
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    collector.url = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait(5)
