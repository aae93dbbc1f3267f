"""Turns the record of an ended exchange into encoded OTLP spans, some 2 µs an exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sidecar.log import mask_query
from sidecar.methods import KNOWN_METHODS, OTHER
from sidecar.otlp.resource import attributes
from sidecar.tracing.encoding import (
    ERROR,
    Cache,
    attribute_cache,
    encode_attribute,
    encode_extras,
)
from sidecar.tracing.wire import SPANS, embedded, key, number, span_frame, text

if TYPE_CHECKING:
    from sidecar.tracing.facts import AttemptRecord, ExchangeRecord
    from sidecar.tracing.record import SpanRecord

_KINDS: Final = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
# The upper bits of Span.flags: it is known whether the parent is in another process, and it is.
_LOCAL_PARENT: Final = 0x100
_REMOTE_PARENT: Final = 0x300

_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_MAX_TEXT: Final = 2048
_MAX_METHOD: Final = 64

_URL_PATH: Final = key("url.path")
_URL_QUERY: Final = key("url.query")
_URL_FULL: Final = key("url.full")
_CORRELATION_ID: Final = key("correlation.id")
_REQUEST_SIZE: Final = key("http.request.body.size")
_RESPONSE_SIZE: Final = key("http.response.body.size")

_TEXT_ATTRIBUTES: Final = (
    "client.address",
    "error.type",
    "sidecar.breaker",
    "sidecar.idempotency",
    "sidecar.reason",
    "sidecar.retry_skipped",
    "user_agent.original",
)


class SpanEncoder:
    """Encodes spans as ``spans`` fields of ``ScopeSpans``. For one thread."""

    __slots__ = ("_authority", "_host", "_route", "_status", "_texts")

    def __init__(self) -> None:
        self._route = Cache(_encode_route)
        self._host = Cache(_encode_host)
        self._authority = Cache(_encode_authority)
        self._status = attribute_cache("http.response.status_code")
        self._texts = {name: attribute_cache(name) for name in _TEXT_ATTRIBUTES}

    def exchange(self, record: ExchangeRecord) -> list[bytes]:
        """The SERVER span of an exchange, then the CLIENT spans of its attempts."""
        verb = KNOWN_METHODS.get(record.method, OTHER)
        path, _, query = _utf8(record.target[:_MAX_TEXT]).partition(b"?")
        if query:
            query = mask_query(query.decode()).encode()
        correlation_id = text(_CORRELATION_ID, _utf8(record.correlation_id))
        spans = [embedded(SPANS, b"".join(self._server_span(record, verb, path, query, correlation_id)))]
        target = b"%b?%b" % (path, query) if query else path
        for resent, attempt in enumerate(record.attempts):
            parts = self._client_span(record, attempt, verb, target, correlation_id)
            if resent:
                parts.append(encode_attribute("http.request.resend_count", resent))
            spans.append(embedded(SPANS, b"".join(parts)))
        return spans

    def span(self, record: SpanRecord) -> bytes:
        """Any other span."""
        span = Span(
            trace_id=bytes.fromhex(record.trace_id),
            span_id=bytes.fromhex(record.span_id),
            parent_span_id=bytes.fromhex(record.parent_id),
            name=record.name,
            kind=_KINDS[record.kind],
            start_time_unix_nano=record.start_ns,
            end_time_unix_nano=record.end_ns,
            attributes=attributes(record.attributes),
        )
        parts = [span.SerializeToString(), encode_extras(record.events, record.links)]
        if record.error:
            parts += (self._texts["error.type"][record.error], ERROR)
        return embedded(SPANS, b"".join(parts))

    def _server_span(
        self, record: ExchangeRecord, verb: str, path: bytes, query: bytes, correlation_id: bytes
    ) -> list[bytes]:
        context, status, texts = record.context, record.status, self._texts
        parts = [
            span_frame(
                (context.trace_id, context.span_id, context.parent_id),
                (record.start_ns, record.end_ns),
                context.flags | (_REMOTE_PARENT if context.parent_id else _LOCAL_PARENT),
            ),
            text(_URL_PATH, path),
            correlation_id,
            number(_REQUEST_SIZE, record.request_bytes),
            number(_RESPONSE_SIZE, record.response_bytes),
            self._route[verb, record.route, record.template, record.scheme, record.version],
            self._authority[record.authority],
            self._status[status],
        ]
        if record.client:
            parts.append(texts["client.address"][record.client])
        if record.user_agent:
            parts.append(texts["user_agent.original"][record.user_agent[:_MAX_TEXT].decode("latin-1")])
        if record.idempotency:
            parts.append(texts["sidecar.idempotency"][record.idempotency])
        if status >= _SERVER_ERROR:
            parts += (texts["error.type"][record.reason or str(status)], ERROR)
        self._add_seldom(parts, record, verb, query)
        return parts

    def _add_seldom(self, parts: list[bytes], record: ExchangeRecord, verb: str, query: bytes) -> None:
        """What most SERVER spans do not have."""
        context = record.context
        if record.reason:
            parts.append(self._texts["sidecar.reason"][record.reason])
        if record.retry_skipped:
            parts.append(self._texts["sidecar.retry_skipped"][record.retry_skipped])
        if query:
            parts.append(text(_URL_QUERY, query))
        if verb is OTHER:
            original = record.method[:_MAX_METHOD].decode("latin-1")
            parts.append(encode_attribute("http.request.method_original", original))
        if context.tracestate:
            state = b",".join(context.tracestate).decode("latin-1")
            parts.append(Span(trace_state=state).SerializeToString())
        if record.events or record.links:
            parts.append(encode_extras(record.events, record.links))

    def _client_span(
        self,
        record: ExchangeRecord,
        attempt: AttemptRecord,
        verb: str,
        target: bytes,
        correlation_id: bytes,
    ) -> list[bytes]:
        context, status, texts = record.context, attempt.status, self._texts
        port = f":{attempt.port}" if attempt.port else ""
        origin = f"{attempt.scheme}://{attempt.host}{port}".encode()
        parts = [
            span_frame(
                (context.trace_id, attempt.span_id, context.span_id),
                (attempt.start_ns, attempt.end_ns),
                context.flags | _LOCAL_PARENT,
            ),
            text(_URL_FULL, origin + target),
            correlation_id,
            self._host[verb, attempt.upstream, attempt.host, attempt.port],
        ]
        if status:
            parts.append(self._status[status])
        if attempt.breaker:
            parts.append(texts["sidecar.breaker"][attempt.breaker])
        if attempt.error or status >= _CLIENT_ERROR:
            parts += (texts["error.type"][attempt.error or str(status)], ERROR)
        if attempt.events:
            parts.append(encode_extras(attempt.events, ()))
        return parts


def _utf8(octets: bytes) -> bytes:
    """What came over the wire, as a collector takes text; almost always the same."""
    return octets if octets.isascii() else octets.decode("latin-1").encode()


def _encode_route(key: tuple[str, str, str, str, str]) -> bytes:
    """What all SERVER spans of a method on a route have in common."""
    verb, route, template, scheme, version = key
    common = {
        "http.request.method": verb,
        "url.scheme": scheme,
        "network.protocol.version": version,
        "sidecar.route": route,
    }
    if template:
        common["http.route"] = template
    name = f"{_named(verb)} {template}".rstrip()
    return Span(name=name, kind=Span.SPAN_KIND_SERVER, attributes=attributes(common)).SerializeToString()


def _encode_host(key: tuple[str, str, str, int]) -> bytes:
    """What all CLIENT spans of a method to a host have in common."""
    verb, upstream, host, port = key
    common: dict[str, str | int] = {
        "http.request.method": verb,
        "server.address": host,
        "network.protocol.version": "1.1",
        "sidecar.upstream": upstream,
    }
    if port:
        common["server.port"] = port
    return Span(
        name=_named(verb), kind=Span.SPAN_KIND_CLIENT, attributes=attributes(common)
    ).SerializeToString()


def _encode_authority(authority: bytes) -> bytes:
    """``server.address`` and ``server.port`` of a ``Host`` field."""
    text = authority.decode("latin-1")
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or len(port) > len("65535"):
        return encode_attribute("server.address", text) if text else b""
    return encode_attribute("server.address", host) + encode_attribute("server.port", int(port))


def _named(verb: str) -> str:
    """The method in a span's name; ``HTTP`` for those that are not known, as the conventions have it."""
    return "HTTP" if verb == OTHER else verb
