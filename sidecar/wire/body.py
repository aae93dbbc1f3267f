"""Bodies: how far they reach, and what is inside the framing (RFC 9112, sections 6 and 7).

The error that a malformed body raises is the caller's choice: a client's is a 400, an upstream's a 502.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.wire import grammar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.wire.head import Limits

# What a chunked body expects next.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3

_LONGEST_CHUNK_LINE: Final = 1024
# Chunk extensions are legal, useless, and a way to make a receiver read forever: a whole body may carry this
# many octets of them.
_MOST_EXTENSION_OCTETS: Final = 16 * 1024
# Fields that say where a message goes or ends have no business behind it (RFC 9110, section 6.5.1).
_FORBIDDEN_TRAILERS: Final = frozenset(
    (
        *(b"transfer-encoding", b"content-length", b"host", b"trailer", b"te", b"connection", b"keep-alive"),
        *(b"upgrade", b"expect", b"authorization", b"proxy-authorization", b"content-type", b"content-range"),
        *(b"content-encoding", b"set-cookie", b"cookie", b"idempotency-key", b"proxy-connection"),
    )
)


class Body:
    """A body being read.

    Attributes:
        done: Whether its end has been seen.
        rest: Octets behind its end.
        trailers: Field lines behind a chunked body that may be passed on.
    """

    __slots__ = ("done", "rest", "trailers")

    def __init__(self, *, done: bool = False) -> None:
        self.done = done
        self.rest = b""
        self.trailers: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``."""
        raise AssertionError(f"a message without a body has no octets: {data[:20]!r}")


NO_BODY: Final = Body(done=True)
"""Of a message without one."""


class LengthBody(Body):
    """A body of known length: counted, never looked at."""

    __slots__ = ("remaining",)

    def __init__(self, length: int) -> None:
        super().__init__(done=length == 0)
        self.remaining = length

    def feed(self, data: bytes) -> bytes:
        """The part of ``data`` that belongs to the body."""
        left = self.remaining - len(data)
        if left > 0:
            self.remaining = left
            return data
        self.done = True
        if left == 0:
            self.remaining = 0
            return data
        cut = self.remaining
        self.remaining = 0
        self.rest = data[cut:]
        return data[:cut]


class UntilCloseBody(Body):
    """A response's body that ends with the connection; ``end`` is called then."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        """All of ``data``."""
        return data

    def end(self) -> None:
        """The connection has been closed in good order."""
        self.done = True


class ChunkedBody(Body):
    """A chunked body, decoded strictly: CRLF only, and everything around the payload bounded."""

    __slots__ = ("_checked", "_error", "_extensions", "_held", "_left", "_limits", "_phase")

    def __init__(self, limits: Limits, error: Callable[[str, str], Exception]) -> None:
        """Decode with ``limits`` on trailers; ``error(message, reason)`` makes what is raised."""
        super().__init__()
        self._limits = limits
        self._error = error
        self._held = b""
        self._checked = 0
        self._phase = _SIZE
        self._left = 0
        self._extensions = 0

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``, without framing."""
        if self._held:
            data = self._held + data
            self._held = b""
        position, size = 0, len(data)
        payload: list[bytes] = []
        while position < size and not self.done:
            phase = self._phase
            if phase == _DATA:
                taken = min(self._left, size - position)
                payload.append(data[position : position + taken])
                self._left -= taken
                position += taken
                if self._left == 0:
                    self._phase = _DATA_END
            elif phase == _DATA_END:
                position = self._end_data(data, position)
            elif phase == _SIZE:
                position = self._read_size(data, position)
            else:
                position = self._read_trailers(data, position)
            if position < 0:
                break
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _end_data(self, data: bytes, position: int) -> int:
        ending = data[position : position + 2]
        if ending == b"\r\n":
            self._phase = _SIZE
            return position + 2
        if ending == b"\r":
            self._held = ending
            return -1
        raise self._error("a chunk's data is not followed by CRLF", "chunk_end")

    def _read_size(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position, position + _LONGEST_CHUNK_LINE + 2)
        if end < 0:
            line = data[position:]
            # One octet more may be the CR of a line that is just short enough.
            if len(line) > _LONGEST_CHUNK_LINE + 1 or self._breaks_a_line(line):
                raise self._error(
                    "a chunk's size line is too long or ends with a bare CR or LF", "chunk_size"
                )
            if line[:1] not in b"0123456789abcdefABCDEF":
                raise self._error("a chunk's size is not a hexadecimal number", "chunk_size")
            self._held = line
            return -1
        self._checked = 0
        match = grammar.CHUNK_LINE.fullmatch(data, position, end)
        if match is None:
            raise self._error("a chunk's size line is malformed", "chunk_size")
        self._extensions += len(match[2])
        if self._extensions > _MOST_EXTENSION_OCTETS:
            raise self._error("too many octets of chunk extensions", "chunk_extension")
        self._left = int(match[1], 16)
        self._phase = _DATA if self._left else _TRAILERS
        return end + 2

    def _read_trailers(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            end = position
        else:
            end = data.find(b"\r\n\r\n", position + self._checked) + 2
            if end < 2:  # noqa: PLR2004 - not found
                self._hold_trailers(data[position:])
                return -1
        block = data[position : end + 2]
        if len(block) > self._limits.header_bytes or grammar.TRAILER_LINES.fullmatch(block) is None:
            raise self._error("the trailer section is malformed or too large", "trailers")
        lines = block[:-4].split(b"\r\n") if len(block) > 2 else []  # noqa: PLR2004 - more than the last CRLF
        if len(lines) > self._limits.headers:
            raise self._error("too many trailer fields", "trailers")
        self.trailers = [line for line in lines if line.partition(b":")[0].lower() not in _FORBIDDEN_TRAILERS]
        self.rest = data[end + 2 :]
        self.done = True
        return len(data)

    def _hold_trailers(self, held: bytes) -> None:
        if len(held) > self._limits.header_bytes or self._breaks_a_line(held):
            raise self._error("the trailer section is malformed or too large", "trailers")
        self._held = held

    def _breaks_a_line(self, held: bytes) -> bool:
        """Whether there is a bare CR or LF in ``held``.

        What was looked at once is not looked at again: octets that come one by one cost no more than all at
        once. The last three may be the beginning of the end.
        """
        found = grammar.BARE_LINE_END.search(held, self._checked)
        self._checked = max(0, len(held) - 3)
        return found is not None


def chunk(payload: bytes) -> bytes:
    """``payload`` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers)
