"""Heads of upstreams' answers: RFC 9112, sections 4 and 5."""

from __future__ import annotations

from tests.conformance.vectors import Answered, head
from tests.support.upstream import Do

LENGTH = b"Content-Length: 2"


def _bad(name: str, answer: bytes, rfc: str = "RFC 9112, section 4") -> Answered:
    return Answered(name=name, rfc=rfc, script=[answer], status=502, reused=False)


def _bad_line(name: str, line: bytes) -> Answered:
    return _bad(f"status line {name}", head(line, LENGTH) + b"ok")


def _bad_field(name: str, line: bytes, rfc: str = "RFC 9112, section 5") -> Answered:
    return _bad(f"field {name}", head(b"HTTP/1.1 200 OK", line, LENGTH) + b"ok", rfc)


MALFORMED = [
    _bad_line("of another protocol", b"ICY 200 OK"),
    _bad_line("of version 2", b"HTTP/2 200 OK"),
    _bad_line("of version 2.0", b"HTTP/2.0 200 OK"),
    _bad_line("of version 0.9", b"HTTP/0.9 200 OK"),
    _bad_line("in lower case", b"http/1.1 200 OK"),
    _bad_line("with two digits", b"HTTP/1.1 20 OK"),
    _bad_line("with four digits", b"HTTP/1.1 2000 OK"),
    _bad_line("with letters", b"HTTP/1.1 2OO OK"),
    _bad_line("with a sign", b"HTTP/1.1 +20 OK"),
    _bad_line("without a status", b"HTTP/1.1"),
    _bad_line("with status zero", b"HTTP/1.1 000 OK"),
    _bad_line("with two spaces", b"HTTP/1.1  200 OK"),
    _bad_line("behind a space", b" HTTP/1.1 200 OK"),
    _bad_line("with a NUL in the reason", b"HTTP/1.1 200 O\x00K"),
    _bad_line("with a bare CR in the reason", b"HTTP/1.1 200 O\rK"),
    _bad("answer without a status line", b"hello\r\n\r\n"),
    _bad("answer of HTML", b"<html><body>hello</body></html>\r\n\r\n"),
    _bad("answer of binary octets", bytes(range(256))),
    _bad(
        "answer of lines with bare LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "RFC 9112, section 2.2"
    ),
    _bad(
        "one line with a bare LF",
        b"HTTP/1.1 200 OK\r\nX-A: 1\nContent-Length: 2\r\n\r\nok",
        "RFC 9112, section 2.2",
    ),
    _bad(
        "end of the head by a bare LF",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        "RFC 9112, section 2.2",
    ),
    _bad_field("without a colon", b"hello"),
    _bad_field("without a name", b": 1"),
    _bad_field("with a space in its name", b"X A: 1"),
    _bad_field("with a space before the colon", b"X-A : 1", "RFC 9112, section 5.1"),
    _bad_field("folded", b"X-A: 1\r\n 2", "RFC 9112, section 5.2"),
    _bad_field("with a NUL", b"X-A: 1\x002", "RFC 9110, section 5.5"),
    _bad_field("with a bare CR", b"X-A: 1\r2", "RFC 9110, section 5.5"),
    _bad_field("with a byte over 127 in its name", b"X-\xe9: 1", "RFC 9110, section 5.1"),
    _bad(
        "head without a bound",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 8000 + b"\r\nX-B: " + b"a" * 2_000_000,
    ),
    _bad("field lines without a bound", head(b"HTTP/1.1 200 OK", *(b"X-%d: 1" % n for n in range(20_000)))),
]

BROKEN_OFF = [
    Answered(
        name="closed without an answer",
        rfc="RFC 9110, section 15.6.3",
        script=[Do.CLOSE],
        status=502,
        reused=False,
    ),
    Answered(
        name="reset without an answer",
        rfc="RFC 9110, section 15.6.3",
        script=[Do.RESET],
        status=502,
        reused=False,
    ),
    Answered(
        name="closed within the status line",
        rfc="RFC 9112, section 8",
        script=[b"HTTP/1.1 20", Do.CLOSE],
        status=502,
        reused=False,
    ),
    Answered(
        name="closed within the head",
        rfc="RFC 9112, section 8",
        script=[b"HTTP/1.1 200 OK\r\nContent-Le", Do.CLOSE],
        status=502,
        reused=False,
    ),
    Answered(
        name="closed before the head's last line end",
        rfc="RFC 9112, section 8",
        script=[b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Do.CLOSE],
        status=502,
        reused=False,
    ),
    Answered(
        name="reset within the head",
        rfc="RFC 9112, section 8",
        script=[b"HTTP/1.1 200 OK\r\nContent-Le", Do.RESET],
        status=502,
        reused=False,
    ),
]


def _good(name: str, *lines: bytes, rfc: str, **expected: object) -> Answered:
    return Answered(name=name, rfc=rfc, script=[head(*lines)], **expected)  # type: ignore[arg-type]


GOOD = [
    Answered(
        name="plain answer",
        rfc="RFC 9112, section 4",
        script=[head(b"HTTP/1.1 200 OK", LENGTH) + b"ok"],
        body=b"ok",
    ),
    Answered(
        name="answer octet by octet",
        rfc="RFC 9112, section 2.2",
        script=[bytes((octet,)) for octet in head(b"HTTP/1.1 200 OK", LENGTH) + b"ok"],
        body=b"ok",
    ),
    _good("empty reason", b"HTTP/1.1 200 ", b"Content-Length: 0", rfc="RFC 9112, section 4", body=b""),
    _good(
        "unknown status",
        b"HTTP/1.1 299 Odd",
        b"Content-Length: 0",
        rfc="RFC 9110, section 15",
        status=299,
        body=b"",
    ),
    _good(
        "error status",
        b"HTTP/1.1 500 No",
        b"Content-Length: 0",
        rfc="RFC 9110, section 15",
        status=500,
        body=b"",
    ),
    _good(
        "fields as they are",
        b"HTTP/1.1 200 OK",
        b"Content-Length: 0",
        b"Server: x",
        b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
        b'ETag: "\xc3\xa9"',
        b"X-Empty:",
        rfc="RFC 9110, section 5.5",
        fields=(
            b"Server: x",
            b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
            b"Set-Cookie: a=1",
            b"Set-Cookie: b=2",
            b'ETag: "\xc3\xa9"',
            b"X-Empty:",
        ),
    ),
    _good(
        "the date of the answer is kept",
        b"HTTP/1.1 200 OK",
        b"Content-Length: 0",
        b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
        rfc="RFC 9110, section 6.6.1",
        fields=(b"Date: Mon, 01 Jan 2024 00:00:00 GMT",),
    ),
    _good(
        "hop-by-hop fields are removed",
        b"HTTP/1.1 200 OK",
        b"Content-Length: 0",
        b"Connection: X-A, keep-alive",
        b"X-A: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"X-B: 1",
        rfc="RFC 9110, section 7.6.1",
        fields=(b"X-B: 1",),
        absent=("X-A", "Keep-Alive", "Proxy-Connection"),
    ),
    _good(
        "the upstream's close is not the client's",
        b"HTTP/1.1 200 OK",
        b"Content-Length: 0",
        b"Connection: close",
        rfc="RFC 9112, section 9.6",
        absent=("Connection",),
        reused=False,
    ),
    _good(
        "fields that only the sidecar may set are removed",
        b"HTTP/1.1 200 OK",
        b"Content-Length: 0",
        b"X-Sidecar-Reason: circuit_open",
        b"X-Idempotency-Status: unprotected",
        b"X-Idempotent-Replayed: true",
        b"X-Idempotent-Original-Correlation-ID: a",
        rfc="RFC 9110, section 7.6.1",
        absent=(
            "X-Sidecar-Reason",
            "X-Idempotency-Status",
            "X-Idempotent-Replayed",
            "X-Idempotent-Original-Correlation-ID",
        ),
    ),
]
