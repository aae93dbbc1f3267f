"""Chunked request bodies and their trailers: RFC 9112, section 7.1."""

from __future__ import annotations

from tests.conformance.vectors import Forwarded, Refused, chunked

LAST = b"0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"


def _chunk(name: str, body: bytes, status: int | tuple[int, ...] = 400) -> Refused:
    sent = chunked(body)
    return Refused(name=f"chunk {name}", rfc="RFC 9112, section 7.1", sent=sent, status=status, in_body=True)


def _extension(name: str, extension: bytes, status: int | tuple[int, ...] = 400) -> Refused:
    sent = chunked(b"5" + extension + b"\r\nhello\r\n" + LAST)
    return Refused(
        name=f"chunk extension {name}", rfc="RFC 9112, section 7.1.1", sent=sent, status=status, in_body=True
    )


def _trailer(name: str, lines: bytes, status: int | tuple[int, ...] = 400) -> Refused:
    sent = chunked(b"5\r\nhello\r\n0\r\n" + lines)
    return Refused(
        name=f"trailer {name}", rfc="RFC 9112, section 7.1.2", sent=sent, status=status, in_body=True
    )


REFUSED = [
    _chunk("size empty", b"\r\nhello\r\n" + LAST),
    _chunk("size of letters", b"xyz\r\nhello\r\n" + LAST),
    _chunk("size with a prefix", b"0x5\r\nhello\r\n" + LAST),
    _chunk("size with a plus", b"+5\r\nhello\r\n" + LAST),
    _chunk("size with a minus", b"-5\r\nhello\r\n" + LAST),
    _chunk("size of minus zero", b"-0\r\n\r\n"),
    _chunk("size with an underscore", b"0_5\r\nhello\r\n" + LAST),
    _chunk("size behind a space", b" 5\r\nhello\r\n" + LAST),
    _chunk("size before a space", b"5 \r\nhello\r\n" + LAST),
    _chunk("size before a tab", b"5\t\r\nhello\r\n" + LAST),
    _chunk("size before a no-break space", b"5\xa0\r\nhello\r\n" + LAST),
    _chunk("size before a vertical tab", b"5\x0b\r\nhello\r\n" + LAST),
    _chunk("size in Arabic digits", b"\xd9\xa5\r\nhello\r\n" + LAST),
    _chunk("size with a point", b"5.\r\nhello\r\n" + LAST),
    _chunk("size before a comma", b"5,5\r\nhello\r\n" + LAST),
    _chunk("size over 64 bits", b"10000000000000005\r\nhello\r\n" + LAST),
    _chunk("size of 100 digits", b"f" * 100 + b"\r\nhello\r\n" + LAST),
    _chunk("size just over a signed 64 bit number", b"8000000000000000\r\nhello\r\n" + LAST),
    _chunk("line ended by a bare LF", b"5\nhello\r\n" + LAST),
    _chunk("line ended by a bare CR", b"5\rhello\r\n" + LAST),
    _chunk("line ended by CR CR LF", b"5\r\r\nhello\r\n" + LAST),
    _chunk("last line ended by a bare LF", b"5\r\nhello\r\n0\n\r\n"),
    _chunk("data followed by a bare LF", b"5\r\nhello\n" + LAST),
    _chunk("data followed by a bare CR", b"5\r\nhello\r" + LAST),
    _chunk("data followed by two other octets", b"5\r\nhelloXX" + LAST),
    _chunk("data followed by LF CR", b"5\r\nhello\n\r" + LAST),
    _chunk("data shorter than its size", b"5\r\nhell\r\n" + LAST),
    _chunk("data longer than its size", b"5\r\nhello!\r\n" + LAST),
    _chunk("size that wraps around to a smaller one", b"100000000000000000\r\n" + SMUGGLED),
    _chunk("body ended by bare LF", b"5\r\nhello\r\n0\r\n\n"),
    _extension("with a bare LF", b";a\nb"),
    _extension("with a bare CR", b";a\rb"),
    _extension("with CR CR", b";a\r"),
    _extension("with a bare LF in quotes", b';a="\n"'),
    _extension("with CRLF in quotes", b';a="\r\n"'),
    _extension("with a bare CR in quotes", b';a="\r"'),
    _extension("that hides a chunk", b";\n0\r\n\r\n" + SMUGGLED),
    _extension("with a NUL", b";a\x00b"),
    _extension("without a bound", b";" + b"a" * 70_000, status=(400, 413, 431)),
    _trailer("without a colon", b"bad\r\n\r\n"),
    _trailer("that would be a request", SMUGGLED),
    _trailer("with a space before the colon", b"X-A : 1\r\n\r\n"),
    _trailer("without a name", b": 1\r\n\r\n"),
    _trailer("folded", b"X-A: 1\r\n 2\r\n\r\n"),
    _trailer("folded at once", b" X-A: 1\r\n\r\n"),
    _trailer("ended by a bare LF", b"X-A: 1\n\r\n"),
    _trailer("with a bare CR", b"X-A: 1\r2\r\n\r\n"),
    _trailer("with a NUL", b"X-A: 1\x00\r\n\r\n"),
    _trailer("name that is no token", b"X(A: 1\r\n\r\n"),
    _trailer("over the limit", b"X-A: " + b"a" * 70_000 + b"\r\n\r\n", status=(400, 431)),
    _trailer("over the limit and unfinished", b"X-A: " + b"a" * 70_000, status=(400, 431)),
    _trailer(
        "fields too many", b"".join(b"X-%d: 1\r\n" % n for n in range(101)) + b"\r\n", status=(400, 431)
    ),
]


def _passes(
    name: str,
    body: bytes,
    read: bytes = b"hello",
    trailers: tuple[bytes, ...] = (),
    rfc: str = "RFC 9112, section 7.1",
) -> Forwarded:
    return Forwarded(
        name=name,
        rfc=rfc,
        sent=chunked(body),
        line=b"POST / HTTP/1.1",
        framing="chunked",
        body=read,
        trailers=trailers,
    )


FORWARDED = [
    _passes("several chunks", b"1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n" + LAST),
    _passes("no chunk at all", LAST, read=b""),
    _passes("size in capitals", b"A\r\n0123456789\r\n" + LAST, read=b"0123456789"),
    _passes("size with leading zeros", b"0005\r\nhello\r\n" + LAST),
    _passes("last chunk of several zeros", b"5\r\nhello\r\n000\r\n\r\n"),
    _passes("data of line ends", b"4\r\n\r\n\r\n\r\n" + LAST, read=b"\r\n\r\n"),
    _passes("data that looks like a last chunk", b"5\r\n0\r\n\r\n\r\n" + LAST, read=LAST),
    _passes("many small chunks", b"1\r\na\r\n" * 2000 + LAST, read=b"a" * 2000),
    _passes("extension", b"5;a\r\nhello\r\n" + LAST, rfc="RFC 9112, section 7.1.1"),
    _passes("extension with a value", b"5;a=b;c=d\r\nhello\r\n" + LAST, rfc="RFC 9112, section 7.1.1"),
    _passes("extension in quotes", b'5;a=";\xa0 5"\r\nhello\r\n' + LAST, rfc="RFC 9112, section 7.1.1"),
    _passes("extension on the last chunk", b"5\r\nhello\r\n0;a=b\r\n\r\n", rfc="RFC 9112, section 7.1.1"),
    _passes(
        "trailer",
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        trailers=(b"x-sum: 1",),
        rfc="RFC 9112, section 7.1.2",
    ),
    _passes(
        "several trailers",
        b"5\r\nhello\r\n0\r\nX-A: 1\r\nX-B:2\r\n\r\n",
        trailers=(b"x-a: 1", b"x-b: 2"),
        rfc="RFC 9112, section 7.1.2",
    ),
    _passes(
        "trailers that frame or route are dropped",
        b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n\r\n",
        trailers=(b"x-a: 1",),
        rfc="RFC 9110, section 6.5.1",
    ),
    _passes(
        "trailers that authenticate or control are dropped",
        b"5\r\nhello\r\n0\r\nAuthorization: a\r\nIdempotency-Key: k\r\nConnection: a\r\nCookie: b\r\n\r\n",
        rfc="RFC 9110, section 6.5.1",
    ),
]
