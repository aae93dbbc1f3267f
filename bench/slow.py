"""Bodies larger than memory should hold: sent as fast as is taken, taken more slowly than is sent."""

from __future__ import annotations

import asyncio
from typing import cast

from bench.load import BrokenAnswer, http_request, run_loop

_STEP_BYTES = 1 << 20
_STEP_PAUSE_SECONDS = 0.002
_STALL_AFTER_BYTES = 8 << 20
_STALL_SECONDS = 1.0
_TRANSFER_SECONDS = 180.0


class SlowReader:
    """Slows a sender down by not reading from its connection.

    A second's silence after the first 8 MiB fills whatever buffer is on the way; then 2 ms of pause after
    each MiB keep it full.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._taken = 0
        self._until_pause = _STEP_BYTES
        self._stalled = False

    def took(self, count: int) -> None:
        """Account for bytes that were read; may pause reading for a while."""
        self._taken += count
        self._until_pause -= count
        if not self._stalled and self._taken >= _STALL_AFTER_BYTES:
            self._stalled = True
            self._pause(_STALL_SECONDS)
        elif self._until_pause <= 0:
            self._until_pause = _STEP_BYTES
            self._pause(_STEP_PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


class _Client(asyncio.Protocol):
    """Sends one request, with a body as long as wished, and counts the bytes of the answer."""

    def __init__(self, request: bytes, upload_bytes: int) -> None:
        self._request = request
        self._upload_missing = upload_bytes
        self._writable = True
        self._head = b""
        self._answer_missing = -1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._reader = SlowReader(self._transport)
        self._transport.write(self._request)
        self._send_more()

    def _send_more(self) -> None:
        while self._upload_missing and self._writable:
            count = min(self._upload_missing, _STEP_BYTES)
            self._upload_missing -= count
            self._transport.write(bytes(count))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send_more()

    def data_received(self, data: bytes) -> None:
        if self._answer_missing < 0:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._answer_missing = self._length_of(head)
            count = len(rest)
        else:
            count = len(data)
        self._answer_missing -= count
        self._reader.took(count)
        if self._answer_missing <= 0 and not self.done.done():
            self.done.set_result(None)

    def _length_of(self, head: bytes) -> int:
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:") and head[9:10] == b"2":
                return int(line[15:])
        raise BrokenAnswer(f"expected a 2xx with Content-Length, got {head!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(BrokenAnswer(f"the connection broke off mid-body ({exc})"))


async def _transfer(port: int, request: bytes, upload_bytes: int) -> None:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(
        lambda: _Client(request, upload_bytes), "127.0.0.1", port
    )
    try:
        await asyncio.wait_for(client.done, _TRANSFER_SECONDS)
    finally:
        transport.close()


def download(port: int, count: int) -> None:
    """Read a body of ``count`` bytes through the proxy on ``port``, slowly.

    Raises:
        BrokenAnswer: It did not come whole.
    """
    run_loop(_transfer(port, http_request("GET", f"/bytes/{count}"), 0))


def upload(port: int, count: int) -> None:
    """Send a body of ``count`` bytes through the proxy on ``port`` to an upstream that reads slowly.

    Raises:
        BrokenAnswer: It was not taken whole.
    """
    head = http_request(
        "POST", "/slowly", "Content-Type: application/octet-stream", f"Content-Length: {count}"
    )
    run_loop(_transfer(port, head, count))
