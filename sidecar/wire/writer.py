"""Heads as they are sent on, in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.digits import decimal

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead, ResponseHead


def request_head(head: RequestHead, host: bytes, added: bytes, *, forward_expect: bool) -> bytes:
    """The head that goes to the upstream.

    Args:
        head: What the client sent.
        host: Value of ``Host``.
        added: Field lines of our own, each with its CRLF.
        forward_expect: Whether the upstream, not the sidecar, answers ``Expect: 100-continue``.
    """
    length = head.length
    if length == 0:
        # A request that may carry a body and has none says so, or some servers wait (RFC 9110, section 8.6).
        framing = b"Content-Length: 0\r\n" if b"content-length" in head.special else b""
    elif length is None:
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b"Content-Length: %b\r\n" % decimal(length)
    if head.upgrade is not None:
        framing += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    elif head.accepts_trailers:
        framing += b"Connection: TE\r\nTE: trailers\r\n"
    if forward_expect:
        framing += b"Expect: 100-continue\r\n"
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n" % (
        head.method,
        head.target,
        host,
        head.fields.raw,
        framing,
        added,
    )


def response_head(head: ResponseHead, framing: bytes, added: bytes) -> bytes:
    """The head that goes to the client; ``framing`` and ``added`` are field lines, each with its CRLF."""
    return b"HTTP/1.1 %b %b\r\n%b%b%b\r\n" % (
        decimal(head.status),
        head.reason,
        head.fields.raw,
        framing,
        added,
    )
