"""Reads one head, as the tests of this folder need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.transcript import read_requests, read_responses

if TYPE_CHECKING:
    from sidecar.errors import SidecarError
    from sidecar.wire.head import RequestHead, ResponseHead

GET = b"GET / HTTP/1.1"


def lines(first: bytes, *fields: bytes) -> bytes:
    """A head."""
    return b"\r\n".join([first, *fields, b"", b""])


def request(*fields: bytes, first: bytes = GET, host: bytes | None = b"test") -> RequestHead:
    """The head of a request with ``fields``; ``Host`` comes first unless it is ``None``."""
    read = read_requests([lines(first, *([] if host is None else [b"Host: " + host]), *fields)])
    if read.fault is not None:
        raise read.fault
    return read.messages[0].head


def response(*fields: bytes, first: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    """The head of a response with ``fields``."""
    read = read_responses([lines(first, *fields)], method)
    if read.fault is not None:
        raise read.fault
    return read.messages[0].head


def refusal(stream: bytes) -> SidecarError:
    """Why ``stream`` is refused as a request."""
    fault = read_requests([stream]).fault
    assert fault is not None, "it was not refused"
    return fault


def rejection(stream: bytes) -> SidecarError:
    """Why ``stream`` is refused as a response."""
    fault = read_responses([stream]).fault
    assert fault is not None, "it was not refused"
    return fault
