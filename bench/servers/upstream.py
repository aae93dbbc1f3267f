"""The upstream of every contender: as little as answers HTTP, so that the proxies are what is measured.

``GET /hello`` answers 27 bytes, ``GET /bytes/N`` answers N, a POST is answered with 201 once its body has
come. A body for ``/slowly`` is read as a slow service would.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

from bench.harness import CORES, Stage, free_port, python_module
from bench.slow import SlowReader

HELLO = b'{"message":"hello, world!"}'
CREATED = b'{"id":"0123456789","state":"created"}'

_FIELDS = b"Content-Type: application/json\r\nServer: bench\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"


def _head(status: bytes, length: int) -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, _FIELDS, length)


_HELLO = _head(b"200 OK", len(HELLO)) + HELLO
_CREATED = _head(b"201 Created", len(CREATED)) + CREATED
_MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_BLOCK = bytes(1 << 20)


class _Answerer(asyncio.Protocol):
    """One connection from a proxy, which never sends a request before the last one's answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = b""
        self._body_missing = 0
        self._answer_missing = 0
        self._writable = True
        self._slow: SlowReader | None = None

    def data_received(self, data: bytes) -> None:
        if self._body_missing:
            self._body_arrived(len(data))
            return
        if self._head:
            data = self._head + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return
        self._head = b""
        if data.startswith(b"GET /hello "):
            self._transport.write(_HELLO)
        elif data.startswith(b"GET /bytes/"):
            self._send_bytes(int(data[11 : data.index(b" ", 11)]))
        elif data.startswith(b"POST "):
            self._post_began(data[:end], len(data) - end - 4)
        else:
            self._transport.write(_MISSING)

    def _post_began(self, head: bytes, arrived: int) -> None:
        lowered = head.lower()
        start = lowered.index(b"\r\ncontent-length:") + 17
        self._body_missing = int(lowered[start:].split(b"\r\n", 1)[0])
        self._slow = SlowReader(self._transport) if head.startswith(b"POST /slowly ") else None
        self._body_arrived(arrived)

    def _body_arrived(self, count: int) -> None:
        self._body_missing -= count
        if self._slow:
            self._slow.took(count)
        if not self._body_missing:
            self._transport.write(_CREATED)

    def _send_bytes(self, count: int) -> None:
        self._transport.write(_head(b"200 OK", count))
        self._answer_missing = count
        self._send_more()

    def _send_more(self) -> None:
        while self._answer_missing and self._writable:
            count = min(self._answer_missing, len(_BLOCK))
            self._answer_missing -= count
            self._transport.write(_BLOCK[:count])

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_more()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Answerer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def start(stage: Stage) -> int:
    """Start the upstream; its port."""
    port = free_port()
    stage.start_listening("upstream", python_module(__name__, str(port)), port, cores=CORES.rest)
    return port


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
