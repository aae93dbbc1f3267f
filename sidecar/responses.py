"""Small facts about responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.wire.head import ResponseHead

_EVENT_STREAM: Final = b"text/event-stream"
_STATUS_LINES: Final[dict[int, bytes]] = {}


def is_event_stream(response: ResponseHead) -> bool:
    """Whether the response is a stream of server-sent events."""
    types = response.special.get(b"content-type")
    return types is not None and types[0][: len(_EVENT_STREAM)].lower() == _EVENT_STREAM


def status_line(status: int) -> bytes:
    """The first line of a response with ``status`` (RFC 9112, section 4), with its CRLF."""
    line = _STATUS_LINES.get(status)
    if line is None:
        line = _STATUS_LINES[status] = b"HTTP/1.1 %d %b\r\n" % (status, phrase_of(status))
    return line


def phrase_of(status: int) -> bytes:
    """The reason phrase of ``status``; empty for one that nobody has registered."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
