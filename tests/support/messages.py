"""HTTP/1.1 messages read strictly, so that whatever the sidecar writes is checked by the mere reading of it.

Independent of the sidecar's own parser on purpose: the same mistake in both would hide itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\Z")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.[01]\Z")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)\Z")
_PIECE = 1 << 16

Framing = Literal["none", "length", "chunked", "close"]


class Malformed(AssertionError):  # noqa: N818 - what the peer did, not a fault of ours
    """The other side wrote something that RFC 9112 does not allow."""


class Ended(AssertionError):  # noqa: N818 - what the peer did, not a fault of ours
    """The other side closed in order (FIN) where more had to come."""


class Broken(AssertionError):  # noqa: N818 - what the peer did, not a fault of ours
    """The other side reset the connection (RST)."""


class Reader:
    """Bytes of a socket, by line and by count; ``raw`` keeps all that was received while ``keep`` is on."""

    def __init__(self, connection: socket.socket, *, keep: bool = True) -> None:
        self._connection = connection
        self.keep = keep
        self.buffer = bytearray()
        self.raw = bytearray()

    def more(self) -> bool:
        """Read once; False at the end of the stream.

        Raises:
            Broken: The connection was reset.
            TimeoutError: Nothing came within the socket's timeout.
        """
        try:
            piece = self._connection.recv(_PIECE)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Broken(f"connection reset after {bytes(self.raw[-200:])!r}") from error
        self.buffer += piece
        if self.keep:
            self.raw += piece
        return bool(piece)

    def _need(self) -> None:
        if not self.more():
            raise Ended(f"connection closed after {bytes(self.buffer[-200:])!r}")

    def line(self) -> bytes:
        """The next line, without its CRLF."""
        while (end := self.buffer.find(b"\n")) < 0:
            self._need()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise Malformed(f"a line not ended by CRLF alone: {line!r}")
        return line[:-2]

    def pieces(self, count: int) -> Iterator[bytes]:
        """The next ``count`` bytes, as they come."""
        while count:
            if not self.buffer:
                self._need()
            piece = bytes(self.buffer[:count])
            del self.buffer[: len(piece)]
            count -= len(piece)
            yield piece

    def rest(self) -> Iterator[bytes]:
        """Everything up to the end of the stream, as it comes."""
        while self.buffer or self.more():
            yield bytes(self.buffer)
            self.buffer.clear()

    def at_end(self) -> bool:
        """Whether the stream is closed in order and nothing is left; waits for one of both."""
        return not self.buffer and not self.more()


@dataclass(slots=True)
class Message:
    """A request or a response; field names are in lower case, in the order received."""

    start: bytes
    fields: list[tuple[bytes, bytes]]
    framing: Framing = "none"
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def values(self, name: str | bytes) -> list[bytes]:
        """Every value of a field, in order."""
        wanted = (name.encode() if isinstance(name, str) else name).lower()
        return [value for key, value in self.fields if key == wanted]

    def __contains__(self, name: str | bytes) -> bool:
        return bool(self.values(name))

    def __getitem__(self, name: str | bytes) -> bytes:
        """The value of a field that must be there exactly once."""
        values = self.values(name)
        if len(values) != 1:
            raise AssertionError(f"{name!r} {len(values)} times in {self.start!r} {self.fields}")
        return values[0]


@dataclass(slots=True)
class Request(Message):
    """What an upstream received."""

    @property
    def method(self) -> bytes:
        """The method."""
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The request target, as sent."""
        return self.start.split(b" ")[1]

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


@dataclass(slots=True)
class Response(Message):
    """What a client received; ``interim`` are the 1xx responses before it."""

    interim: list[Response] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.start[9:12])


def read_fields(reader: Reader) -> list[tuple[bytes, bytes]]:
    """Header or trailer fields up to and with the empty line."""
    fields = []
    while line := reader.line():
        match = _FIELD.match(line)
        if match is None:
            raise Malformed(f"not a field line: {line!r}")
        fields.append((match[1].lower(), match[2]))
    return fields


def read_request_head(reader: Reader) -> Request:
    """The head of a request; ``framing`` says how its body follows."""
    start = reader.line()
    if not _REQUEST_LINE.match(start):
        raise Malformed(f"not a request line: {start!r}")
    request = Request(start, read_fields(reader))
    _ = request["host"]  # exactly one
    request.framing = _framing(request)
    return request


def read_request(reader: Reader) -> Request:
    """A whole request."""
    request = read_request_head(reader)
    request.body = b"".join(body_pieces(reader, request))
    return request


def read_response_head(reader: Reader, method: str = "GET") -> Response:
    """The head of the next response, interim ones (1xx) included."""
    start = reader.line()
    if not _STATUS_LINE.match(start):
        raise Malformed(f"not a status line: {start!r}")
    response = Response(start, read_fields(reader))
    framing = _framing(response)
    if response.status < 200 or response.status == 204:  # RFC 9110, sections 8.6 and 15.2
        if framing != "none":
            raise Malformed(f"a body announced in {start!r} {response.fields}")
    elif method != "HEAD" and response.status != 304:
        response.framing = "close" if framing == "none" else framing
    return response


def read_final_head(reader: Reader, method: str = "GET") -> Response:
    """The head of the final response, with the interim ones before it."""
    interim = []
    while (response := read_response_head(reader, method)).status < 200 and response.status != 101:
        interim.append(response)
    response.interim = interim
    return response


def read_response(reader: Reader, method: str = "GET") -> Response:
    """A whole response to a request with ``method``."""
    response = read_final_head(reader, method)
    response.body = b"".join(body_pieces(reader, response))
    return response


def body_pieces(reader: Reader, message: Message) -> Iterator[bytes]:
    """The body's octets as they come; fills in ``message.trailers`` at its end."""
    by_framing: dict[Framing, Callable[[], Iterator[bytes]]] = {
        "none": lambda: iter(()),
        "length": lambda: reader.pieces(int(message["content-length"])),
        "chunked": lambda: _chunks(reader, message),
        "close": reader.rest,
    }
    return by_framing[message.framing]()


def _chunks(reader: Reader, message: Message) -> Iterator[bytes]:
    while True:
        line = reader.line()
        size = line.partition(b";")[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            raise Malformed(f"not a chunk size: {line!r}")
        if int(size, 16) == 0:
            message.trailers = read_fields(reader)
            return
        yield from reader.pieces(int(size, 16))
        if reader.line() != b"":
            raise Malformed("chunk data not followed by CRLF")


def _framing(message: Message) -> Framing:
    lengths, codings = message.values("content-length"), message.values("transfer-encoding")
    if lengths and codings:
        raise Malformed(f"Content-Length and Transfer-Encoding: {message.fields}")
    if codings:
        if codings != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding {codings}")
        return "chunked"
    if lengths:
        if not re.fullmatch(rb"[0-9]+", message["content-length"]):
            raise Malformed(f"Content-Length {lengths}")
        return "length"
    return "none"
