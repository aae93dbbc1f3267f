from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.servers.otlp_sink import body_of, count_spans


def test_spans_are_counted_over_resources_and_scopes():
    export = ExportTraceServiceRequest()
    for spans_by_scope in ([3, 0], [1]):
        resource = export.resource_spans.add(schema_url="https://example.test/" + "x" * 200)
        resource.resource.attributes.add(key="service.name").value.string_value = "bench"
        for count in spans_by_scope:
            scope = resource.scope_spans.add()
            scope.scope.name = "tracer"
            for _ in range(count):
                scope.spans.add(name="GET /hello", trace_id=bytes(16), span_id=bytes(8), kind=2)
    assert count_spans(export.SerializeToString()) == 4


def test_nothing_holds_no_span():
    assert count_spans(b"") == 0


def test_what_is_not_an_export_is_refused():
    with pytest.raises(ValueError, match="wire type"):
        count_spans(b"\x08\x01")


@pytest.mark.parametrize(
    "message",
    [
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: 5\r\n\r\nspans",
        b"POST /v1/traces HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nsp\r\n3\r\nans\r\n0\r\n\r\n",
    ],
)
def test_a_body_is_found_whole_or_not_at_all(message):
    assert body_of(message) == b"spans"
    assert {body_of(message[:end]) for end in range(len(message))} == {None}


def test_a_request_without_framing_has_an_empty_body():
    assert body_of(b"GET /spans HTTP/1.1\r\n\r\n") == b""
