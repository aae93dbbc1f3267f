"""A client that sends exactly the bytes it is given."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support import messages
from tests.support.messages import Broken, Reader, Response
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

Address = tuple[str, int] | Path


class Client:
    """One connection. Every read is bounded by ``timeout`` seconds."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        timeout: float = PATIENCE,
        receive_buffer: int = 0,
    ) -> None:
        self._socket = _connect(address, timeout, receive_buffer)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=server_name)
        self.reader = Reader(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def socket(self) -> socket.socket:
        """The socket itself, to look at without reading."""
        return self._socket

    @property
    def local_port(self) -> int:
        """The port it connects from."""
        return self._socket.getsockname()[1]

    def send(self, *pieces: bytes) -> None:
        """Send each piece by itself, without waiting for more.

        A peer that has closed already is no error here: what it answered can still be read.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self._socket.sendall(piece)

    def request(
        self, method: str, target: str, *fields: str, body: bytes | None = None, host: str = "test"
    ) -> Response:
        """Send a request with these field lines (``Name: value``) and read the whole response."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """The next whole response, interim ones included."""
        return messages.read_response(self.reader, method)

    def head(self, method: str = "GET") -> Response:
        """The head of the next final response; read its body from ``reader``."""
        return messages.read_final_head(self.reader, method)

    def any_head(self, method: str = "GET") -> Response:
        """The head of the next response, be it interim or final."""
        return messages.read_response_head(self.reader, method)

    def end(self) -> str:
        """How the connection ends: ``closed`` (FIN) or ``reset`` (RST).

        Raises:
            AssertionError: More bytes came.
            TimeoutError: It does not end.
        """
        try:
            if self.reader.at_end():
                return "closed"
        except Broken:
            return "reset"
        raise AssertionError(f"expected the end of the connection, got {bytes(self.reader.buffer)!r}")

    def finish_sending(self) -> None:
        """Close the sending half (FIN); answers can still be read."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Abort the connection (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close both halves."""
        self._socket.close()


def _connect(address: Address, timeout: float, receive_buffer: int) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(str(address) if isinstance(address, Path) else address)
    if family == socket.AF_INET:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def error_of(response: Response) -> dict[str, Any]:
    """The ``error`` object of an answer, after checking that it is one that the sidecar made."""
    error = json.loads(response.body)["error"]
    assert response["content-type"].startswith(b"application/json"), response.fields
    assert response["x-sidecar-reason"] == error["code"].lower().encode(), response.fields
    assert response["x-correlation-id"] == error["correlation_id"].encode(), response.fields
    assert error["message"]
    return error


def refusal(response: Response) -> tuple[int, str]:
    """The status and the code of an answer that the sidecar made."""
    return response.status, error_of(response)["code"]


def is_replay(response: Response) -> bool:
    """Whether the sidecar says that it has given this answer before."""
    return response.values("x-idempotent-replayed") == [b"true"]
