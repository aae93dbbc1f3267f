"""Spans as a collector sees them: decoded with opentelemetry-proto."""

from __future__ import annotations

import tracemalloc

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from sidecar.tracing import encoding
from sidecar.tracing.context import admit
from sidecar.tracing.facts import AttemptRecord, ExchangeRecord
from sidecar.tracing.record import Link, SpanEvent, SpanRecord
from sidecar.tracing.sampling import Sampler
from sidecar.tracing.spans import SpanEncoder
from sidecar.tracing.wire import SPANS, embedded, key, length, number, text

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
START, END = 1_700_000_000_000_000_000, 1_700_000_000_004_000_000


SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()


def exchange(*, traceparents=(SAMPLED,), tracestates=(), **changes):
    values = {
        "context": admit(traceparents, tracestates, Sampler(1.0)),
        "start_ns": START,
        "end_ns": END,
        "method": b"GET",
        "target": b"/api/v1/requests/17",
        "route": "one-request",
        "template": "/api/v1/requests/{id}",
        "status": 200,
        "correlation_id": b"corr-1",
    }
    return ExchangeRecord(**values | changes)


def attempt(record, **changes):
    values = {
        "span_id": record.context.child()[0],
        "start_ns": START + 1,
        "end_ns": END - 1,
        "upstream": "app",
        "scheme": "http",
        "host": "127.0.0.1",
        "port": 3000,
        "status": 200,
        "breaker": "closed",
    }
    return AttemptRecord(**values | changes)


def decoded(record, encoder=None):
    spans = (encoder or SpanEncoder()).exchange(record)
    return list(ScopeSpans.FromString(b"".join(spans)).spans)


def attributes(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def test_an_exchange_is_a_server_span_with_a_client_span_below():
    record = exchange(
        tracestates=[b"foo=1,bar=2"],
        authority=b"svc.local:8080",
        client="10.0.0.7",
        user_agent=b"curl/8.0",
        request_bytes=3,
        response_bytes=512,
        idempotency="executed",
    )
    record.attempts.append(attempt(record))
    server, client = decoded(record)
    context = record.context
    assert server.name == "GET /api/v1/requests/{id}"
    assert server.kind == Span.SPAN_KIND_SERVER
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert server.span_id.hex() == context.span_id
    assert (server.start_time_unix_nano, server.end_time_unix_nano) == (START, END)
    assert server.trace_state == "foo=1,bar=2"
    assert server.flags == 0x301
    assert server.status.code == Status.STATUS_CODE_UNSET
    assert attributes(server) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/requests/{id}",
        "url.path": "/api/v1/requests/17",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "svc.local",
        "server.port": 8080,
        "client.address": "10.0.0.7",
        "user_agent.original": "curl/8.0",
        "http.request.body.size": 3,
        "http.response.body.size": 512,
        "correlation.id": "corr-1",
        "sidecar.route": "one-request",
        "sidecar.idempotency": "executed",
    }
    assert client.name == "GET"
    assert client.kind == Span.SPAN_KIND_CLIENT
    assert (client.trace_id, client.parent_span_id) == (server.trace_id, server.span_id)
    assert client.span_id.hex() == record.attempts[0].span_id
    assert client.flags == 0x101
    assert attributes(client) == {
        "http.request.method": "GET",
        "url.full": "http://127.0.0.1:3000/api/v1/requests/17",
        "server.address": "127.0.0.1",
        "server.port": 3000,
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "correlation.id": "corr-1",
        "sidecar.upstream": "app",
        "sidecar.breaker": "closed",
    }


def test_a_retried_exchange_has_a_span_per_attempt():
    record = exchange()
    record.attempts += [
        attempt(record, status=0, error="connect_refused", breaker="half_open"),
        attempt(record, status=503),
        attempt(record),
    ]
    server, first, second, third = decoded(record)
    assert attributes(first)["error.type"] == "connect_refused"
    assert "http.response.status_code" not in attributes(first)
    assert attributes(second)["error.type"] == "503"
    counts = [attributes(span).get("http.request.resend_count") for span in (first, second, third)]
    assert counts == [None, 1, 2]
    codes = [span.status.code for span in (server, first, second, third)]
    error, unset = Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET
    assert codes == [unset, error, error, unset]
    assert len({span.span_id for span in (server, first, second, third)}) == 4


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [(200, "", None), (404, "no_route", None), (500, "", "500"), (503, "circuit_open", "circuit_open")],
)
def test_only_server_errors_are_errors_of_the_server_span(status, reason, error):
    (server,) = decoded(exchange(status=status, reason=reason))
    assert attributes(server).get("error.type") == error
    assert attributes(server).get("sidecar.reason", "") == reason
    assert (server.status.code == Status.STATUS_CODE_ERROR) is (error is not None)


def test_a_trace_that_begins_here_has_no_parent():
    (server,) = decoded(exchange(traceparents=()))
    assert server.parent_span_id == b""
    assert server.flags == 0x101


def test_queries_are_shown_without_secrets():
    record = exchange(target=b"/find?q=x&token=abc")
    record.attempts.append(attempt(record))
    server, client = decoded(record)
    assert attributes(server)["url.path"] == "/find"
    assert attributes(server)["url.query"] == "q=x&token=***"
    assert attributes(client)["url.full"] == "http://127.0.0.1:3000/find?q=x&token=***"


@pytest.mark.parametrize("method", [b"PROPFIND", b"get", b"\xff" * 300])
def test_unknown_methods_do_not_name_spans(method):
    record = exchange(method=method)
    record.attempts.append(attempt(record))
    server, client = decoded(record)
    assert server.name == "HTTP /api/v1/requests/{id}"
    assert client.name == "HTTP"
    assert attributes(server)["http.request.method"] == "_OTHER"
    assert attributes(server)["http.request.method_original"] == method[:64].decode("latin-1")


def test_without_a_template_the_method_is_the_name():
    (server,) = decoded(exchange(template="", route="unmatched"))
    assert server.name == "GET"
    assert "http.route" not in attributes(server)


@pytest.mark.parametrize(
    ("authority", "address", "port"),
    [
        (b"svc", "svc", None),
        (b"svc:80", "svc", 80),
        (b"[::1]:8080", "[::1]", 8080),
        (b"svc:http", "svc:http", None),
        (b"svc:123456", "svc:123456", None),
        (b"", None, None),
    ],
)
def test_the_authority_is_address_and_port(authority, address, port):
    (server,) = decoded(exchange(authority=authority))
    assert attributes(server).get("server.address") == address
    assert attributes(server).get("server.port") == port


def test_a_unix_socket_has_no_port():
    record = exchange()
    record.attempts.append(attempt(record, host="/run/app.sock", port=0, breaker=""))
    _, client = decoded(record)
    assert "sidecar.breaker" not in attributes(client)
    assert attributes(client)["server.address"] == "/run/app.sock"
    assert "server.port" not in attributes(client)


def test_events_and_links_are_kept():
    record = exchange(retry_skipped="budget")
    record.events.append(SpanEvent(START + 5, "retry", {"delay_ms": 100, "why": "reset"}))
    record.links = (Link("ab" * 16, "cd" * 8, {"sidecar.link": "original"}),)
    (server,) = decoded(record)
    (event,), (link,) = server.events, server.links
    assert (event.name, event.time_unix_nano) == ("retry", START + 5)
    assert {item.key for item in event.attributes} == {"delay_ms", "why"}
    assert (link.trace_id.hex(), link.span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert attributes(server)["sidecar.retry_skipped"] == "budget"


@pytest.mark.parametrize("kind", ["internal", "server", "client", "producer", "consumer"])
def test_other_spans_have_what_they_are_given(kind):
    record = SpanRecord(
        name="deliver REQUEST_CREATED",
        kind=kind,
        trace_id=TRACE,
        span_id="11" * 8,
        parent_id=PARENT if kind != "consumer" else "",
        start_ns=START,
        end_ns=END,
        attributes={"text": "a", "flag": True, "count": 3, "share": 0.5},
        error="timeout" if kind == "client" else "",
        links=[Link(TRACE, PARENT)],
    )
    (span,) = ScopeSpans.FromString(SpanEncoder().span(record)).spans
    assert span.name == record.name
    assert Span.SpanKind.Name(span.kind) == f"SPAN_KIND_{kind.upper()}"
    found = attributes(span)
    assert {name: found[name] for name in record.attributes} == record.attributes
    assert (span.status.code == Status.STATUS_CODE_ERROR) is (kind == "client")
    assert len(span.links) == 1


def test_one_exchange_leaves_nothing_in_the_next():
    encoder = SpanEncoder()
    full = exchange(
        status=503, reason="circuit_open", user_agent=b"x", target=b"/a?b=c", retry_skipped="budget"
    )
    full.attempts.append(attempt(full))
    decoded(full, encoder)
    (server,) = decoded(exchange(), encoder)
    assert "error.type" not in attributes(server)
    assert "url.query" not in attributes(server)
    assert server.status.code == Status.STATUS_CODE_UNSET
    assert attributes(server)["url.path"] == "/api/v1/requests/17"


def test_strangers_cannot_fill_memory():
    encoder = SpanEncoder()
    for count in range(2000):
        encoder.exchange(exchange(user_agent=b"agent-%d" % count, authority=b"host-%d" % count))
    assert len(encoder._texts["user_agent.original"]) <= encoding.MAX_CACHED
    assert len(encoder._authority) <= encoding.MAX_CACHED
    tracemalloc.start()
    for count in range(3000):
        encoder.exchange(exchange(target=b"/%d/" % count + b"x" * 2000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000_000


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 3_000_000])
def test_lengths_are_varints(size):
    span = Span(name="x" * size)
    encoded = span.SerializeToString()
    assert ScopeSpans.FromString(embedded(SPANS, encoded)).spans[0] == span
    found = 0
    for place, digit in enumerate(length(encoded)):
        found |= (digit & 0x7F) << 7 * place
    assert found == len(encoded)


@pytest.mark.parametrize("size", [0, 1, *range(110, 132), 1023, 1024, *range(16_370, 16_386)])
@pytest.mark.parametrize("name", ["k", "http.request.body.size", "n" * 200])
def test_texts_are_attributes(name, size):
    (found,) = Span.FromString(text(key(name), b"x" * size)).attributes
    assert (found.key, found.value.string_value) == (name, "x" * size)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 1023, 1024, 2**31, 2**62])
def test_numbers_are_attributes(value):
    (found,) = Span.FromString(number(key("size"), value)).attributes
    assert (found.key, found.value.int_value) == ("size", value)


def test_what_is_not_ascii_is_shown_as_latin_1():
    (server,) = decoded(exchange(target=b"/\xe4?\xf6=1", correlation_id=b"\xfc"))
    found = attributes(server)
    assert (found["url.path"], found["url.query"], found["correlation.id"]) == ("/ä", "ö=1", "ü")
