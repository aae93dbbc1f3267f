"""A collector that takes OTLP over HTTP, counts the spans in it, and keeps nothing.

``POST`` is answered with 200; spans that come to ``/v1/traces`` count. ``GET /spans`` says how many came.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, cast

import uvloop

from bench.harness import CORES, Stage, free_port, python_module
from bench.load import http_request, probe

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
_LENGTH_DELIMITED = 2
_RESOURCE_SPANS = 1  # field numbers of opentelemetry-proto's trace.proto
_SCOPE_SPANS = 2
_SPANS = 2


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _submessages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError(f"expected messages and strings only at this level, got wire type {tag & 7}")
        length, at = _varint(message, at)
        if tag >> 3 == wanted:
            yield message[at : at + length]
        at += length


def count_spans(export: bytes) -> int:
    """How many spans an ``ExportTraceServiceRequest`` holds."""
    return sum(
        1
        for resource in _submessages(memoryview(export), _RESOURCE_SPANS)
        for scope in _submessages(resource, _SCOPE_SPANS)
        for _ in _submessages(scope, _SPANS)
    )


def body_of(message: bytes) -> bytes | None:
    """The body of a request, by length or in chunks as Envoy sends it; ``None`` while it is not whole."""
    head, end, rest = message.partition(b"\r\n\r\n")
    if not end:
        return None
    lowered = head.lower()
    if b"\r\ntransfer-encoding: chunked" in lowered:
        return _joined_chunks(rest)
    _, named, value = lowered.partition(b"\r\ncontent-length:")
    length = int(value.split(b"\r\n", 1)[0]) if named else 0
    return rest[:length] if len(rest) >= length else None


def _joined_chunks(rest: bytes) -> bytes | None:
    chunks: list[bytes] = []
    at = 0
    while (line_end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:line_end], 16)
        at = line_end + 2 + size + 2
        if at > len(rest):
            return None
        if size == 0:
            return b"".join(chunks)
        chunks.append(rest[line_end + 2 : at - 2])
    return None


class _Sink(asyncio.Protocol):
    spans = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = body_of(self._received)
        if body is None:
            return
        if self._received.startswith(b"GET "):
            figure = b"%d" % _Sink.spans
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(figure), figure)
        else:
            if self._received.startswith(b"POST /v1/traces "):  # metrics come too, now and then
                _Sink.spans += count_spans(body)
            answer = _TAKEN
        self._received = b""
        self._transport.write(answer)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port)
    await server.serve_forever()


def start(stage: Stage) -> int:
    """Start the sink; its port."""
    port = free_port()
    stage.start_listening("otlp-sink", python_module(__name__, str(port)), port, cores=CORES.rest)
    return port


def spans_taken(port: int) -> int:
    """How many spans the sink has taken so far."""
    return int(probe(port, http_request("GET", "/spans"))[2])


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
