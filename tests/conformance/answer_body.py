"""Bodies of upstreams' answers: RFC 9112, sections 6 to 8."""

from __future__ import annotations

from tests.conformance.vectors import Answered, get, head
from tests.support.upstream import Do

OK = b"HTTP/1.1 200 OK"
CHUNKED = head(OK, b"Transfer-Encoding: chunked")
LAST = b"0\r\n\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
HEAD = b"HEAD /answer HTTP/1.1\r\nHost: test\r\n\r\n"
OLD = b"GET /answer HTTP/1.0\r\nHost: test\r\n\r\n"
SECTION_6_3 = "RFC 9112, section 6.3"


def _bad_framing(name: str, *lines: bytes, body: bytes = b"5\r\nhello\r\n" + LAST) -> Answered:
    return Answered(name=name, rfc=SECTION_6_3, script=[head(OK, *lines) + body], status=502, reused=False)


FRAMING_REFUSED = [
    _bad_framing("both framings", b"Transfer-Encoding: chunked", b"Content-Length: 15"),
    _bad_framing("both framings the other way round", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    _bad_framing("two lengths", b"Content-Length: 5", b"Content-Length: 6"),
    _bad_framing("two lengths in a list", b"Content-Length: 5, 6"),
    _bad_framing("length with a sign", b"Content-Length: +5"),
    _bad_framing("length below zero", b"Content-Length: -1"),
    _bad_framing("length in hexadecimal", b"Content-Length: 0x5"),
    _bad_framing("length empty", b"Content-Length:"),
    _bad_framing("length over 64 bits", b"Content-Length: 18446744073709551621"),
    _bad_framing("length behind a no-break space", b"Content-Length: \xa05"),
    _bad_framing("unknown coding", b"Transfer-Encoding: gzip"),
    _bad_framing("unknown coding and chunked", b"Transfer-Encoding: gzip, chunked"),
    _bad_framing("chunked twice", b"Transfer-Encoding: chunked, chunked"),
    _bad_framing("coding behind a vertical tab", b"Transfer-Encoding: \x0bchunked"),
    Answered(
        name="chunked from HTTP 1.0",
        rfc="RFC 9112, section 6.1",
        script=[head(b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + LAST],
        status=502,
        reused=False,
    ),
]


def _bad_chunks(name: str, body: bytes) -> Answered:
    """What arrives with the head can still be a 502; later the client's connection can only break."""
    return Answered(
        name=f"chunks {name}",
        rfc="RFC 9112, section 7.1",
        script=[CHUNKED + body],
        broken=True,
        reused=False,
    )


CHUNKS_REFUSED = [
    _bad_chunks("with a bad size", b"xyz\r\nhello\r\n" + LAST),
    _bad_chunks("with a bad second size", b"5\r\nhello\r\n-1\r\n" + LAST),
    _bad_chunks("with a bare LF", b"5\nhello\r\n" + LAST),
    _bad_chunks("with data not ended", b"5\r\nhelloXX" + LAST),
    _bad_chunks("with a size over 64 bits", b"10000000000000005\r\nhello\r\n" + LAST),
    _bad_chunks("with a bare LF in an extension", b"5;\nhello\r\n" + LAST),
    _bad_chunks("with an extension without a bound", b"5;" + b"a" * 70_000 + b"\r\nhello\r\n" + LAST),
    _bad_chunks("with a bad trailer", b"5\r\nhello\r\n0\r\nbad\r\n\r\n"),
    _bad_chunks("with trailers without a bound", b"5\r\nhello\r\n0\r\nX-A: " + b"a" * 500_000),
]

SURPLUS = [
    Answered(
        name="surplus behind the last chunk",
        rfc="RFC 9112, section 9.2",
        script=[CHUNKED + b"5\r\nhello\r\n" + LAST + EVIL],
        status=502,
        reused=False,
    ),
    Answered(
        name="surplus behind a body of known length",
        rfc=SECTION_6_3,
        script=[head(OK, b"Content-Length: 2") + b"ok" + EVIL],
        status=(200, 502),
        reused=False,
    ),
    Answered(
        name="surplus behind the answer to HEAD",
        rfc="RFC 9110, section 9.3.2",
        request=HEAD,
        script=[head(OK, b"Content-Length: 44") + EVIL],
        status=(200, 502),
        reused=False,
    ),
    Answered(
        name="surplus behind 204",
        rfc="RFC 9110, section 15.3.5",
        script=[head(b"HTTP/1.1 204 No Content") + EVIL],
        status=(204, 502),
        reused=False,
    ),
    Answered(
        name="surplus behind 304",
        rfc="RFC 9110, section 15.4.5",
        script=[head(b"HTTP/1.1 304 Not Modified", b"Content-Length: 44") + EVIL],
        status=(304, 502),
        reused=False,
    ),
]

TRUNCATED = [
    Answered(
        name="closed within a body of known length",
        rfc="RFC 9112, section 8",
        script=[head(OK, b"Content-Length: 10") + b"hello", Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="reset within a body of known length",
        rfc="RFC 9112, section 8",
        script=[head(OK, b"Content-Length: 10") + b"hello", Do.RESET],
        broken=True,
        reused=False,
    ),
    Answered(
        name="closed before any of the body",
        rfc="RFC 9112, section 8",
        script=[head(OK, b"Content-Length: 10"), Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="closed between chunks",
        rfc="RFC 9112, section 8",
        script=[CHUNKED + b"5\r\nhello\r\n", Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="closed within a chunk",
        rfc="RFC 9112, section 8",
        script=[CHUNKED + b"5\r\nhel", Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="closed within the last chunk",
        rfc="RFC 9112, section 8",
        script=[CHUNKED + b"5\r\nhello\r\n0\r\n", Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="closed within a chunk, client of HTTP 1.0",
        rfc="RFC 9112, section 8",
        request=OLD,
        script=[CHUNKED + b"5\r\nhel", Do.CLOSE],
        broken=True,
        reused=False,
    ),
    Answered(
        name="reset within a body that the end of the connection ends",
        rfc="RFC 9112, section 8",
        script=[head(OK) + b"hello", Do.RESET],
        broken=True,
        reused=False,
    ),
    Answered(
        name="reset within such a body, client of HTTP 1.0",
        rfc="RFC 9112, section 8",
        request=OLD,
        script=[head(OK) + b"hello", Do.RESET],
        broken=True,
        reused=False,
    ),
]

GOOD = [
    Answered(
        name="chunked",
        rfc="RFC 9112, section 7.1",
        script=[CHUNKED + b"5\r\nhello\r\n" + LAST],
        body=b"hello",
    ),
    Answered(name="chunked and empty", rfc="RFC 9112, section 7.1", script=[CHUNKED + LAST], body=b""),
    Answered(
        name="chunked octet by octet",
        rfc="RFC 9112, section 7.1",
        script=[CHUNKED, *(bytes((octet,)) for octet in b"2\r\nok\r\n" + LAST)],
        body=b"ok",
    ),
    Answered(
        name="chunk extensions",
        rfc="RFC 9112, section 7.1.1",
        script=[CHUNKED + b'5;a="b;c"\r\nhello\r\n0;d\r\n\r\n'],
        body=b"hello",
    ),
    Answered(
        name="trailers",
        rfc="RFC 9112, section 7.1.2",
        request=get(b"TE: trailers", b"Connection: TE", target=b"/answer"),
        script=[CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n"],
        body=b"hello",
        trailers=(b"x-sum: 1", b"x-b: 2"),
    ),
    Answered(
        name="trailers that frame are dropped",
        rfc="RFC 9110, section 6.5.1",
        request=get(b"TE: trailers", b"Connection: TE", target=b"/answer"),
        script=[CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n"],
        body=b"hello",
        trailers=(b"x-sum: 1",),
    ),
    Answered(
        name="chunked for a client of HTTP 1.0",
        rfc="RFC 9112, section 6.1",
        request=OLD,
        script=[CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"],
        body=b"hello",
        absent=("Transfer-Encoding",),
    ),
    Answered(
        name="body that the end of the connection ends",
        rfc=SECTION_6_3,
        script=[head(OK) + b"hello", Do.CLOSE],
        body=b"hello",
        reused=False,
    ),
    Answered(
        name="such a body for a client of HTTP 1.0",
        rfc=SECTION_6_3,
        request=OLD,
        script=[head(OK) + b"hello", Do.CLOSE],
        body=b"hello",
        reused=False,
    ),
    Answered(
        name="such a body from HTTP 1.0",
        rfc=SECTION_6_3,
        script=[head(b"HTTP/1.0 200 OK") + b"hello", Do.CLOSE],
        body=b"hello",
        reused=False,
    ),
    Answered(
        name="known length from HTTP 1.0",
        rfc="RFC 9112, section 9.3",
        script=[head(b"HTTP/1.0 200 OK", b"Content-Length: 2") + b"ok"],
        body=b"ok",
        reused=False,
    ),
    Answered(
        name="HEAD with the length of GET",
        rfc="RFC 9110, section 9.3.2",
        request=HEAD,
        script=[head(OK, b"Content-Length: 1000")],
        fields=(b"Content-Length: 1000",),
        body=b"",
    ),
    Answered(
        name="HEAD with the coding of GET",
        rfc="RFC 9110, section 9.3.2",
        request=HEAD,
        script=[CHUNKED],
        body=b"",
    ),
    Answered(
        name="HEAD without a length",
        rfc="RFC 9110, section 9.3.2",
        request=HEAD,
        script=[head(OK)],
        body=b"",
        absent=("Content-Length",),
    ),
    Answered(
        name="204",
        rfc="RFC 9110, section 15.3.5",
        script=[head(b"HTTP/1.1 204 No Content")],
        status=204,
        absent=("Content-Length", "Transfer-Encoding"),
        body=b"",
    ),
    Answered(
        name="204 with length zero",
        rfc="RFC 9110, section 8.6",
        script=[head(b"HTTP/1.1 204 No Content", b"Content-Length: 0")],
        status=204,
        absent=("Content-Length",),
        body=b"",
    ),
    Answered(
        name="304 with the length of 200",
        rfc="RFC 9110, section 15.4.5",
        script=[head(b"HTTP/1.1 304 Not Modified", b"Content-Length: 1000", b'ETag: "a"')],
        status=304,
        fields=(b'ETag: "a"',),
        body=b"",
    ),
    Answered(
        name="205 with an empty body",
        rfc="RFC 9110, section 15.3.6",
        script=[head(b"HTTP/1.1 205 Reset Content", b"Content-Length: 0")],
        status=205,
        body=b"",
    ),
]
