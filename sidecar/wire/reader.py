"""Turns the octets of a connection into heads and bodies, however they were split on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import BadRequest, SidecarError, UpstreamProtocolError, UriTooLong
from sidecar.wire import grammar
from sidecar.wire.body import NO_BODY, Body, ChunkedBody, LengthBody, UntilCloseBody
from sidecar.wire.head import (
    Limits,
    RequestHead,
    ResponseHead,
    diagnose_fields,
    forbidden_key,
    head_too_large,
    parse_request,
    parse_response,
)

if TYPE_CHECKING:
    from sidecar.wire.fields import FieldRules, Fields

_LEADING_EMPTY_LINES: Final = 2
_METHOD_START: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LINE_END: Final = b"\r\n"
_HEAD_END: Final = b"\r\n\r\n"


class _Reader:
    """What both directions share: the octets that came and are not used yet, and the body being read."""

    __slots__ = ("_checked", "_limits", "_rules", "body", "buffer")

    def __init__(self, rules: FieldRules, limits: Limits) -> None:
        self._rules = rules
        self._limits = limits
        self._checked = 0
        self.buffer = b""
        self.body: Body = NO_BODY

    def push(self, data: bytes) -> None:
        """Take octets from the connection."""
        self.buffer = self.buffer + data if self.buffer else data

    def read_body(self) -> bytes:
        """The payload of the current body in what was pushed; ``body.done`` afterwards says whether it ended.

        Raises:
            SidecarError: The body's framing is malformed.
        """
        data = self.buffer
        self.buffer = b""
        body = self.body
        payload = body.feed(data)
        if body.done:
            self.buffer = body.rest
        return payload

    def _sort(self, block: bytes) -> Fields | None:
        """The field lines of a head, or ``None`` if they break the grammar. A block seen before is good."""
        fields = self._rules.blocks.get(block)
        return fields if fields is not None else self._rules.sort(block)


class RequestReader(_Reader):
    """Reads requests, one after another."""

    __slots__ = ("_empty_lines",)

    def __init__(self, rules: FieldRules, limits: Limits) -> None:
        super().__init__(rules, limits)
        self._empty_lines = 0

    def next_head(self) -> RequestHead | None:
        """The next request's head, or ``None`` while it is not whole. The last body must be done.

        Raises:
            BadRequest, IdempotencyKeyInvalid, UriTooLong, HeadersTooLarge, NotSupported: As soon as it is
                certain. What came of the head is still in ``buffer`` then.
        """
        buffer = self.buffer
        while buffer.startswith(_LINE_END):
            # RFC 9112, section 2.2: an empty line before a request is to be ignored.
            self._empty_lines += 1
            if self._empty_lines > _LEADING_EMPTY_LINES:
                raise BadRequest("too many empty lines before the request", reason="request_line")
            buffer = self.buffer = buffer[2:]
        if not buffer:
            return None
        if self._checked and buffer.find(_HEAD_END, self._checked) < 0:
            self._check_unfinished()
            return None
        whole, end, rest = buffer.partition(_HEAD_END)
        if not end or len(whole) + len(end) > self._limits.header_bytes:
            self._check_unfinished()
            return None
        self._checked = 0
        line, _, block = whole.partition(_LINE_END)
        fields = self._sort(block)
        if fields is None:
            message, reason = diagnose_fields(block + _LINE_END)
            raise forbidden_key(block) or BadRequest(message, reason=reason)
        head = parse_request(line, fields, self._limits)
        self.buffer = rest
        self._empty_lines = 0
        length = head.length
        if length == 0:
            self.body = NO_BODY
        elif length is None:
            self.body = ChunkedBody(self._limits, _bad_request)
        else:
            self.body = LengthBody(length)
        return head

    def _check_unfinished(self) -> None:
        """Refuse what can no longer become a good head, instead of waiting for its end."""
        buffer, limits = self.buffer, self._limits
        line_end = buffer.find(_LINE_END, 0, limits.request_line + 2)
        # One octet more may be the CR of a line that is just within the limit.
        if line_end < 0 and len(buffer) > limits.request_line + 1:
            raise UriTooLong(f"the request line is over {limits.request_line} octets", reason="request_line")
        if len(buffer) > limits.header_bytes:
            raise head_too_large(limits)
        if buffer[:1] not in _METHOD_START:
            if buffer != b"\r":
                raise BadRequest("the request does not begin with a method", reason="request_line")
            return
        checked = self._checked
        if grammar.BARE_LINE_END.search(buffer, checked) or grammar.FORBIDDEN_OCTET.search(buffer, checked):
            raise forbidden_key(buffer) or BadRequest(
                "a line ends with a bare CR or LF, or holds a control character", reason="line_end"
            )
        # The last three octets may be the beginning of the empty line.
        self._checked = max(0, len(buffer) - 3)


class ResponseReader(_Reader):
    """Reads the responses of one upstream connection."""

    __slots__ = ()

    def next_head(self, method: bytes) -> ResponseHead | None:
        """The next head that answers a request with ``method``, interim ones too, or ``None``.

        Raises:
            UpstreamProtocolError: It is malformed or too large.
        """
        buffer = self.buffer
        if self._checked and buffer.find(_HEAD_END, self._checked) < 0:
            self._check_unfinished()
            return None
        whole, end, rest = buffer.partition(_HEAD_END)
        if not end:
            self._check_unfinished()
            return None
        if len(whole) + len(end) > self._limits.header_bytes:
            raise UpstreamProtocolError("the upstream's head is too large", reason="header_bytes", sent=True)
        self._checked = 0
        line, _, block = whole.partition(_LINE_END)
        fields = self._sort(block)
        if fields is None:
            message, reason = diagnose_fields(block + _LINE_END)
            raise UpstreamProtocolError(message, reason=reason, sent=True)
        head = parse_response(line, fields, self._limits, method)
        self.buffer = rest
        if head.length == 0:
            self.body = NO_BODY
        elif head.chunked:
            self.body = ChunkedBody(self._limits, _bad_response)
        elif head.length is None:
            self.body = UntilCloseBody()
        else:
            self.body = LengthBody(head.length)
        return head

    def _check_unfinished(self) -> None:
        buffer = self.buffer
        if len(buffer) > self._limits.header_bytes:
            raise UpstreamProtocolError("the upstream's head is too large", reason="header_bytes", sent=True)
        if not b"HTTP/1.".startswith(buffer[:7]):
            raise UpstreamProtocolError("the answer is not HTTP/1.x", reason="status_line", sent=True)
        if grammar.BARE_LINE_END.search(buffer, self._checked):
            raise UpstreamProtocolError("a line ends with a bare CR or LF", reason="line_end", sent=True)
        self._checked = max(0, len(buffer) - 3)


def _bad_request(message: str, reason: str) -> SidecarError:
    return BadRequest(message, reason=reason)


def _bad_response(message: str, reason: str) -> SidecarError:
    return UpstreamProtocolError(message, reason=reason, sent=True)
