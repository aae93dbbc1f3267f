"""Heads of requests and responses: parsed once, kept as the lines they came in.

A proxy passes most fields on untouched, so a head is a list of raw lines plus a small dictionary of the
fields that mean something to the sidecar. Fields that belong to one connection only (RFC 9110, section
7.6.1) are taken out here, before anything of our own is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.errors import (
    BadRequest,
    HeadersTooLarge,
    IdempotencyKeyInvalid,
    NotSupported,
    UpstreamProtocolError,
    UriTooLong,
)
from sidecar.wire import grammar
from sidecar.wire.fields import NO_FIELDS, field_values, tokens, without_nominated

if TYPE_CHECKING:
    from sidecar.wire.fields import Fields


_QUESTION_MARK: Final = 0x3F
_HASH: Final = 0x23
_PERCENT_SIGN: Final = 0x25
_GOOD_HOSTS: Final[set[bytes]] = set()
_REMEMBERED_HOSTS: Final = 256
_REQUEST_LINES: Final[dict[bytes, tuple[bytes, bytes, int, bytes, bool]]] = {}
_REMEMBERED_LINES: Final = 1024
_REMEMBERED_LINE_LENGTH: Final = 200
_MOST_DIGITS: Final = 18  # no body is longer than 2**59 octets
_STATUS_LINES: Final[dict[bytes, tuple[int, bytes, int]]] = {}
_REMEMBERED_STATUS_LINES: Final = 256


class Limits(NamedTuple):
    """What a head may cost.

    Attributes:
        header_bytes: Octets of the whole head, first line included.
        headers: Number of field lines.
        request_line: Octets of a request's first line.
    """

    header_bytes: int = 64 * 1024
    headers: int = 100
    request_line: int = 8 * 1024


class RequestHead:
    """A request's head, ready to be routed and passed on.

    Attributes:
        method: As sent; any token (RFC 9110, section 9.1).
        target: In origin-form or ``*``; an absolute target has been brought to origin-form.
        path: The target without its query.
        plain_path: Whether ``path`` is known to have no ``%``, no ``//`` and no ``/.``.
        minor: 0 or 1 of ``HTTP/1.x``.
        host: Value of ``Host``, or the absolute target's authority; empty only for HTTP/1.0 without one.
        fields: Raw field lines to pass on.
        special: Values of the fields the sidecar looks at, by lower-case name, in order; those of `fields`.
        length: Octets of the body if it has a known length, 0 without a body, ``None`` if it is chunked.
        persistent: Whether the client lets the connection be used again.
        upgrade: The protocols asked for, or ``None``.
        expects_continue: Whether the client waits for a 100 before it sends its body.
        accepts_trailers: Whether the client sent ``TE: trailers``.
    """

    __slots__ = (
        "accepts_trailers",
        "expects_continue",
        "fields",
        "host",
        "length",
        "method",
        "minor",
        "path",
        "persistent",
        "plain_path",
        "special",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, fields: Fields = NO_FIELDS) -> None:
        self.method = method
        self.target = target
        self.path = target
        self.plain_path = False
        self.minor = minor
        self.host = b""
        self.fields = fields
        self.special = fields.special
        self.length: int | None = 0
        self.persistent = minor == 1
        self.upgrade: bytes | None = None
        self.expects_continue = False
        self.accepts_trailers = False

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} length={self.length}>"

    def values(self, name: bytes) -> list[bytes]:
        """All values of the field ``name`` (lower case), in order, without surrounding white space."""
        found = self.special.get(name)
        return found if found is not None else field_values(self.fields.lines, name)

    def value(self, name: bytes) -> bytes | None:
        """The values of the field ``name`` (lower case), joined as RFC 9110, section 5.3 allows it."""
        values = self.values(name)
        return b", ".join(values) if values else None


class ResponseHead:
    """A response's head.

    Attributes:
        status: 100 to 999.
        reason: The reason phrase, possibly empty.
        minor: 0 or 1 of ``HTTP/1.x``.
        fields: Raw field lines to pass on.
        special: Values of the fields the sidecar looks at, by lower-case name, in order; those of `fields`.
        declared: The ``Content-Length`` as sent, also where there is no body (HEAD, 304), or ``None``.
        length: Octets of the body; ``None`` if chunked or up to the connection's end.
        chunked: Whether the body is chunked.
        persistent: Whether the upstream lets the connection be used again.
    """

    __slots__ = (
        "chunked",
        "declared",
        "fields",
        "length",
        "minor",
        "persistent",
        "reason",
        "special",
        "status",
    )

    def __init__(self, status: int, reason: bytes, minor: int, fields: Fields = NO_FIELDS) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields = fields
        self.special = fields.special
        self.declared: int | None = None
        self.length: int | None = 0
        self.chunked = False
        self.persistent = minor == 1

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length} chunked={self.chunked}>"

    def values(self, name: bytes) -> list[bytes]:
        """All values of the field ``name`` (lower case), in order, without surrounding white space."""
        found = self.special.get(name)
        return found if found is not None else field_values(self.fields.lines, name)


def parse_request(line: bytes, fields: Fields, limits: Limits) -> RequestHead:
    """The head that has ``line`` (without its CRLF) and ``fields``.

    Raises:
        BadRequest: It breaks RFC 9112 or is ambiguous.
        UriTooLong: The first line is over ``limits.request_line``.
        HeadersTooLarge: There are more than ``limits.headers`` fields.
        NotSupported: The method is CONNECT.
    """
    method, target, minor, path, plain = _REQUEST_LINES.get(line) or _parse_request_line(line)
    if len(line) > limits.request_line:
        raise UriTooLong(f"the request line is over {limits.request_line} octets", reason="request_line")
    head = RequestHead(method, target, minor, fields)
    if fields.count > limits.headers:
        raise HeadersTooLarge(f"more than {limits.headers} header fields", reason="headers")
    special = head.special
    if method == b"CONNECT":
        raise NotSupported("CONNECT is not supported: this is a reverse proxy", reason="connect")
    _settle_host(head)
    head.path = path or _settle_target(head)
    head.plain_path = plain
    if not fields.steers:
        return head
    if b"connection" in special or b"upgrade" in special:
        _settle_connection(head)
        special = head.special
    if b"transfer-encoding" in special or b"content-length" in special:
        _settle_request_length(head)
    if b"expect" in special:
        # An Expect in HTTP/1.0 is ignored (RFC 9110, section 10.1.1).
        head.expects_continue = head.minor == 1 and b"100-continue" in tokens(special[b"expect"])
    if b"te" in special:
        head.accepts_trailers = b"trailers" in tokens(special[b"te"])
    return head


def head_too_large(limits: Limits) -> HeadersTooLarge:
    """The error for a request's head over ``limits.header_bytes``."""
    return HeadersTooLarge(f"the head is over {limits.header_bytes} octets", reason="header_bytes")


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, int, bytes, bool]:
    """Method, target, minor version, the path if the target is one and nothing else, and if that is plain.

    Lines that come again and again are remembered; queries, which may hold secrets, never are.
    """
    match = grammar.REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _diagnose_request_line(line)
    method, target, minor = match.groups()
    # Looking for one octet is a memchr; ``bytes in bytes`` costs seven times as much in CPython 3.11.
    is_path = target[:1] == b"/" and _QUESTION_MARK not in target and _HASH not in target
    plain = is_path and _PERCENT_SIGN not in target and target.find(b"//") < 0 and target.find(b"/.") < 0
    parsed = (method, target, int(minor), target if is_path else b"", plain)
    if is_path and len(line) <= _REMEMBERED_LINE_LENGTH:
        if len(_REQUEST_LINES) >= _REMEMBERED_LINES:
            _REQUEST_LINES.clear()
        _REQUEST_LINES[line] = parsed
    return parsed


def _settle_host(head: RequestHead) -> None:
    """One host, well-formed (RFC 9112, section 3.2)."""
    hosts = head.special.get(b"host")
    if hosts is None:
        if head.minor == 1:
            raise BadRequest("the Host field is missing", reason="host_missing")
    elif len(hosts) != 1:
        raise BadRequest("there is more than one Host field", reason="host_repeated")
    else:
        host = head.host = hosts[0]
        if host not in _GOOD_HOSTS:
            _check_host(host)


def _settle_target(head: RequestHead) -> bytes:
    """Bring the target to origin-form (RFC 9112, section 3.2); its path."""
    target = head.target
    if b"#" in target:
        raise BadRequest("the request target has a fragment", reason="target")
    if target[:1] != b"/":
        target = _settle_absolute(head)
    return target.partition(b"?")[0]


def _check_host(host: bytes) -> None:
    if grammar.HOST.fullmatch(host) is None:
        raise BadRequest("the Host field is not a host with an optional port", reason="host_malformed")
    if len(_GOOD_HOSTS) >= _REMEMBERED_HOSTS:
        _GOOD_HOSTS.clear()
    _GOOD_HOSTS.add(host)


def _settle_absolute(head: RequestHead) -> bytes:
    if head.target == b"*":
        if head.method != b"OPTIONS":
            raise BadRequest("the target * is for OPTIONS only", reason="target")
        return head.target
    match = grammar.ABSOLUTE_TARGET.fullmatch(head.target)
    if match is None:
        raise BadRequest("the request target is neither a path nor an http URL", reason="target")
    authority = match[2]
    if grammar.HOST.fullmatch(authority) is None:
        raise BadRequest("the request target's authority is malformed", reason="target")
    if head.host and head.host.lower() != authority.lower():
        # RFC 9112, section 3.2.2 lets the target win; two names for one host are how requests get smuggled.
        raise BadRequest("the Host field and the request target name different hosts", reason="host_mismatch")
    head.host = authority
    rest = match[3]
    if rest[:1] != b"/":
        rest = b"*" if not rest and head.method == b"OPTIONS" else b"/" + rest
    head.target = rest
    return rest


def _settle_connection(head: RequestHead) -> None:
    special = head.special
    named = tokens(special.get(b"connection", []))
    if named:
        if b"close" in named:
            head.persistent = False
        elif head.minor == 0:
            head.persistent = b"keep-alive" in named
        head.fields = without_nominated(named, head.fields)
        special = head.special = head.fields.special
    # An Upgrade counts only when Connection names it, and never in HTTP/1.0 (RFC 9110, section 7.8).
    if head.minor == 1 and b"upgrade" in named and b"upgrade" in special:
        wanted = [p for p in tokens(special[b"upgrade"]) if p and not p.startswith(b"h2c")]
        if wanted:
            head.upgrade = b", ".join(
                p
                for value in special[b"upgrade"]
                for p in (m.strip(b" \t") for m in value.split(b","))
                if p and not p.lower().startswith(b"h2c")
            )


def _settle_request_length(head: RequestHead) -> None:
    """RFC 9112, section 6.3, with every doubt resolved by refusing."""
    special = head.special
    codings = special.get(b"transfer-encoding")
    lengths = special.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise BadRequest("Content-Length together with Transfer-Encoding", reason="framing")
        if head.minor == 0:
            raise BadRequest("Transfer-Encoding in an HTTP/1.0 request", reason="framing")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadRequest("the only transfer coding understood is chunked", reason="transfer_coding")
        head.length = None
        return
    assert lengths is not None
    if len(lengths) != 1 or not _is_number(lengths[0]):
        raise BadRequest("Content-Length is not one decimal number", reason="content_length")
    head.length = int(lengths[0])


def parse_response(line: bytes, fields: Fields, limits: Limits, method: bytes) -> ResponseHead:
    """The head that has ``line`` (without its CRLF) and ``fields``, and answers a request with ``method``.

    Raises:
        UpstreamProtocolError: It breaks RFC 9112, is ambiguous, or has too many fields.
    """
    status, reason, minor = _STATUS_LINES.get(line) or _parse_status_line(line)
    head = ResponseHead(status, reason, minor, fields)
    if fields.count > limits.headers:
        raise UpstreamProtocolError(f"more than {limits.headers} header fields", reason="headers", sent=True)
    if b"connection" in head.special:
        named = tokens(head.special[b"connection"])
        if b"close" in named:
            head.persistent = False
        elif minor == 0:
            head.persistent = b"keep-alive" in named
        head.fields = without_nominated(named, fields)
        head.special = head.fields.special
    _settle_response_length(head, method)
    return head


def _parse_status_line(line: bytes) -> tuple[int, bytes, int]:
    """Status, reason phrase and minor version; the few lines that there are, are remembered."""
    match = grammar.STATUS_LINE.fullmatch(line)
    if match is None:
        raise _diagnose_status_line(line)
    minor, status, reason = match.groups()
    parsed = (int(status), reason or b"", int(minor))
    if len(_STATUS_LINES) >= _REMEMBERED_STATUS_LINES:
        _STATUS_LINES.clear()
    _STATUS_LINES[line] = parsed
    return parsed


def _is_number(value: bytes) -> bool:
    """Whether ``value`` is decimal digits, and not too many of them."""
    return value.isdigit() and len(value) <= _MOST_DIGITS  # octets: none but ASCII's digits count


def _is_bodiless(status: int) -> bool:
    """Whether a response with ``status`` never has a body (RFC 9110, section 6.4.1)."""
    return status < 200 or status == 204 or status == 304  # noqa: PLR1714, PLR2004 - quicker than a set; named by the RFC


def _settle_response_length(head: ResponseHead, method: bytes) -> None:
    """RFC 9112, section 6.3."""
    codings = head.special.get(b"transfer-encoding")
    lengths = head.special.get(b"content-length")
    if lengths is not None:
        if codings is not None:
            raise UpstreamProtocolError(
                "Content-Length together with Transfer-Encoding", reason="framing", sent=True
            )
        if len(lengths) != 1 or not _is_number(lengths[0]):
            raise UpstreamProtocolError(
                "Content-Length is not one number", reason="content_length", sent=True
            )
        head.declared = int(lengths[0])
    if codings is not None and (head.minor == 0 or len(codings) != 1 or codings[0].lower() != b"chunked"):
        raise UpstreamProtocolError(
            "the only transfer coding understood is chunked", reason="framing", sent=True
        )
    status = head.status
    if _is_bodiless(status) or method == b"HEAD":
        head.length = 0
    elif codings is not None:
        head.chunked = True
        head.length = None
    elif lengths is not None:
        head.length = head.declared
    else:
        # Up to the end of the connection, which therefore cannot be used again.
        head.length = None
        head.persistent = False


def _diagnose_request_line(line: bytes) -> BadRequest:
    """Say what is wrong with a request line that the grammar refused."""
    parts = line.split(b" ")
    if b"\r" in line or b"\n" in line:
        return BadRequest("a line ends with a bare CR or LF", reason="line_end")
    if len(parts) != 3:  # noqa: PLR2004 - method, target, version
        return BadRequest("the request line is not METHOD TARGET HTTP/1.1", reason="request_line")
    if not parts[2].startswith(b"HTTP/"):
        return BadRequest("the request line does not end with an HTTP version", reason="version")
    if parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        return BadRequest("only HTTP/1.1 and HTTP/1.0 are understood", reason="version")
    return BadRequest("the method is not a token, or the target is not visible ASCII", reason="request_line")


def forbidden_key(block: bytes) -> IdempotencyKeyInvalid | None:
    """The error for an ``Idempotency-Key`` with a control character, if there is one among these lines."""
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"idempotency-key" and grammar.FORBIDDEN_OCTET.search(value):
            return IdempotencyKeyInvalid("an Idempotency-Key has no control characters", reason="invalid")
    return None


def _diagnose_status_line(line: bytes) -> UpstreamProtocolError:
    """Say what is wrong with a status line that the grammar refused."""
    if b"\r" in line or b"\n" in line:
        return UpstreamProtocolError("a line ends with a bare CR or LF", reason="line_end", sent=True)
    if not line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
        return UpstreamProtocolError("the answer is not HTTP/1.x", reason="status_line", sent=True)
    return UpstreamProtocolError(
        "the status is not three digits, or the reason phrase has a control character",
        reason="status_line",
        sent=True,
    )


def diagnose_fields(block: bytes) -> tuple[str, str]:
    """Say what is wrong with field lines that the grammar refused: a message and a reason."""
    if grammar.BARE_LINE_END.search(block):
        return "a line ends with a bare CR or LF", "line_end"
    return _diagnose_field_lines(block), "header_field"


def _diagnose_field_lines(block: bytes) -> str:
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return "a header field is folded over two lines (obs-fold)"
        if line and not colon:
            return "a header line has no colon"
        if name.endswith((b" ", b"\t")):
            return "there is white space before a header field's colon"
        if grammar.FORBIDDEN_OCTET.search(value):
            return "a header field's value has a control character"
    return "a header field's name is not a token"
