"""An upstream that records every byte it receives and answers with exactly the bytes it is told to."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Self

from tests.support import messages
from tests.support.messages import Broken, Ended, Malformed, Reader, Request
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """A whole response of known length, with further field lines."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked_answer(*pieces: bytes, trailers: tuple[str, ...] = ()) -> bytes:
    """A whole chunked response, each piece a chunk of its own."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    end = "".join(f"{trailer}\r\n" for trailer in trailers).encode("latin-1")
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (chunks, end)


class Do(Enum):
    """What a script does besides sending bytes."""

    READ_BODY = "read the rest of the request"
    CLOSE = "close in order (FIN)"
    FINISH_SENDING = "close the sending half (FIN), keep reading to the end"
    RESET = "abort (RST)"


Step = bytes | Do | threading.Event
Script = Sequence[Step]


class Connection:
    """One connection from the sidecar. ``raw`` is all that was received on it."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self._socket = connection
        self.number = number
        self.reader = Reader(connection)
        self.requests: list[Request] = []
        self.malformed: Malformed | None = None
        self.ended = threading.Event()
        self.how_it_ended = ""

    @property
    def raw(self) -> bytes:
        """Every byte received so far."""
        return bytes(self.reader.raw)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read_body(self, request: Request) -> None:
        """Read the rest of a request of which only the head was read."""
        request.body = b"".join(messages.body_pieces(self.reader, request))

    def has_more(self) -> bool:
        """Whether anything has arrived that was not read yet; does not wait."""
        return bool(self.reader.buffer) or bool(select.select([self._socket], [], [], 0)[0])

    def finish_sending(self) -> None:
        """Close the sending half (FIN)."""
        self._socket.shutdown(socket.SHUT_WR)

    def send_and_close(self, data: bytes) -> None:
        """Send octets whose last packet says that nothing follows: both arrive at once."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self.send(data)
        self.close()

    def close(self) -> None:
        """Close in order (FIN), also while another thread reads."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def reset(self) -> None:
        """Abort (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def wait_end(self, within: float = PATIENCE) -> str:
        """Wait until the sidecar has ended the connection; ``closed`` or ``reset``."""
        if not self.ended.wait(within):
            raise AssertionError(f"connection {self.number} is still open; received {self.raw[-300:]!r}")
        return self.how_it_ended


Handler = Callable[[Connection, Request], None]


@dataclass(slots=True)
class Reply:
    """Answers requests with a script, begun after the whole request or, when ``early``, after its head."""

    script: Script = (OK,)
    early: bool = False

    def __call__(self, connection: Connection, request: Request) -> None:
        """Run the script."""
        if not self.early:
            connection.read_body(request)
        for step in self.script:
            _perform(step, connection, request)


def _perform(step: Step, connection: Connection, request: Request) -> None:
    if isinstance(step, bytes):
        connection.send(step)
    elif isinstance(step, threading.Event):
        assert step.wait(PATIENCE), "the test never let the upstream go on"
    elif step is Do.READ_BODY:
        connection.read_body(request)
    elif step is Do.FINISH_SENDING:
        connection.finish_sending()
    elif step is Do.RESET:
        connection.reset()
    else:
        connection.close()


class Upstream:
    """A server with one thread a connection; ``replies`` by path come before ``reply``."""

    def __init__(
        self,
        reply: Handler | None = None,
        *,
        port: int = 0,
        unix: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.reply: Handler = reply or Reply()
        self.replies: dict[str, Handler] = {}
        self.connections: list[Connection] = []
        self._arrivals: list[tuple[Request, Connection]] = []
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = _listen(port, unix)
        self.port = 0 if unix else self._listener.getsockname()[1]
        scheme = "https" if tls else "http"
        self.url = f"unix:{unix}" if unix else f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def requests(self) -> list[Request]:
        """The requests whose head has arrived, in the order of arrival."""
        with self._lock:
            return [request for request, _ in self._arrivals]

    def on(self, path: str) -> list[Request]:
        """The requests for a path."""
        return [request for request in self.requests if request.path == path.encode()]

    def mark(self) -> list[int]:
        """How much has been received so far, for :meth:`since`."""
        with self._lock:
            return [len(connection.raw) for connection in self.connections]

    def since(self, mark: list[int]) -> list[bytes]:
        """The bytes received since the mark on every connection that received any."""
        with self._lock:
            news = [connection.raw for connection in self.connections]
        news = [raw[mark[number] if number < len(mark) else 0 :] for number, raw in enumerate(news)]
        return [raw for raw in news if raw]

    def wait_request(self, path: str, count: int = 1) -> Request:
        """The request with this number for a path, once its head has arrived."""
        eventually(lambda: len(self.on(path)) >= count, f"{count} request(s) for {path} at the upstream")
        return self.on(path)[count - 1]

    def forget(self) -> None:
        """Begin anew with the list of requests, and with the replies."""
        with self._lock:
            self._arrivals.clear()
        self.reply = Reply()
        self.replies.clear()

    def connection_of(self, request: Request) -> Connection:
        """The connection that a request came on."""
        with self._lock:
            return next(connection for it, connection in self._arrivals if it is request)

    def close(self) -> None:
        """Stop listening and close every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self.connections)
        for connection in connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(PATIENCE * 4)
        if accepted.family == socket.AF_INET:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            try:
                accepted = self._tls.wrap_socket(accepted, server_side=True)
            except OSError:
                accepted.close()
                return
        with self._lock:
            connection = Connection(accepted, len(self.connections))
            self.connections.append(connection)
        connection.how_it_ended = self._converse(connection)
        connection.close()
        connection.ended.set()

    def _converse(self, connection: Connection) -> str:
        """Answer requests until the connection ends; how it ended."""
        try:
            while not connection.reader.at_end():
                request = messages.read_request_head(connection.reader)
                with self._lock:
                    connection.requests.append(request)
                    self._arrivals.append((request, connection))
                self.replies.get(request.path.decode("latin-1"), self.reply)(connection, request)
        except (Broken, ConnectionError):
            return "reset"
        except Ended:
            return "closed"
        except Malformed as error:
            connection.malformed = error
            connection.close()
        except OSError:
            return "closed here"
        return "closed"


def _listen(port: int, unix: Path | None) -> socket.socket:
    if unix is None:
        listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(unix))
    listener.listen(1024)
    return listener
