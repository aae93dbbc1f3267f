"""Where a request's body ends: RFC 9112, sections 6 and 7."""

from __future__ import annotations

from tests.conformance.vectors import Forwarded, Refused, chunked, get, head, post

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def _length(name: str, value: bytes, rfc: str = "RFC 9110, section 8.6") -> Refused:
    sent = post(b"Content-Length:" + value, body=b"hello")
    return Refused(name=f"Content-Length {name}", rfc=rfc, sent=sent)


def _coding(name: str, *lines: bytes, rfc: str = "RFC 9112, section 6.1") -> Refused:
    return Refused(name=f"Transfer-Encoding {name}", rfc=rfc, sent=post(*lines, body=HELLO))


LENGTHS_REFUSED = [
    _length("with a plus", b" +5"),
    _length("with a minus", b" -5"),
    _length("of minus zero", b" -0"),
    _length("with an underscore", b" 5_0"),
    _length("in hexadecimal", b" 0x5"),
    _length("with a point", b" 5.0"),
    _length("with an exponent", b" 5e0"),
    _length("with a space inside", b" 5 0"),
    _length("with a semicolon", b" 5;a"),
    _length("in words", b" five"),
    _length("in Arabic digits", b" \xd9\xa5"),
    _length("in fullwidth digits", b" \xef\xbc\x95"),
    _length("in a Latin-1 superscript", b" \xb2"),
    _length("empty", b""),
    _length("of spaces", b"   "),
    _length("over 64 bits", b" 18446744073709551621"),
    _length("of 300 digits", b" " + b"9" * 300),
    _length("behind a no-break space", b" \xa05"),
    _length("before a no-break space", b" 5\xa0"),
    _length("behind a NEL", b" \x855"),
    _length("before a vertical tab", b" 5\x0b"),
    _length("behind a form feed", b" \x0c5"),
    _length("before a NUL", b" 5\x00"),
    _length("in quotes", b' "5"'),
    _length("as a list of two", b" 5, 6"),
    _length("as a list with an empty member", b" 5,"),
    Refused(
        name="Content-Length twice and different",
        rfc="RFC 9112, section 6.3",
        sent=post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
    ),
    Refused(
        name="Content-Length twice, the smaller last",
        rfc="RFC 9112, section 6.3",
        sent=post(b"Content-Length: 44", b"content-length: 0", body=SMUGGLED),
    ),
    Refused(
        name="Content-Length good and bad",
        rfc="RFC 9112, section 6.3",
        sent=post(b"Content-Length: 5", b"Content-Length: abc", body=b"hello"),
    ),
    Refused(
        name="Content-Length malformed on a GET",
        rfc="RFC 9110, section 8.6",
        sent=get(b"Content-Length: -1") + SMUGGLED,
    ),
    Refused(
        name="Content-Length with a space before the colon",
        rfc="RFC 9112, section 5.1",
        sent=post(b"Content-Length : 5", body=b"hello"),
    ),
    Refused(
        name="Content-Length folded",
        rfc="RFC 9112, section 5.2",
        sent=post(b"Content-Length:\r\n 5", body=b"hello"),
    ),
]

CODINGS_REFUSED = [
    _coding(
        "behind Content-Length",
        b"Content-Length: 15",
        b"Transfer-Encoding: chunked",
        rfc="RFC 9112, section 6.3",
    ),
    _coding(
        "before Content-Length",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 15",
        rfc="RFC 9112, section 6.3",
    ),
    _coding(
        "with Content-Length 0",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        rfc="RFC 9112, section 6.3",
    ),
    _coding(
        "unknown with Content-Length",
        b"Transfer-Encoding: x",
        b"Content-Length: 15",
        rfc="RFC 9112, section 6.3",
    ),
    _coding("gzip", b"Transfer-Encoding: gzip"),
    _coding("identity", b"Transfer-Encoding: identity"),
    _coding("gzip and chunked", b"Transfer-Encoding: gzip, chunked"),
    _coding("chunked and gzip", b"Transfer-Encoding: chunked, gzip"),
    _coding("chunked and identity", b"Transfer-Encoding: chunked, identity"),
    _coding("chunked twice", b"Transfer-Encoding: chunked, chunked"),
    _coding("chunked on two lines", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    _coding(
        "chunked and identity on two lines", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"
    ),
    _coding("with something before", b"Transfer-Encoding: xchunked"),
    _coding("with something behind", b"Transfer-Encoding: chunkedx"),
    _coding("without its comma", b"Transfer-Encoding: x chunked"),
    _coding("in quotes", b'Transfer-Encoding: "chunked"'),
    _coding("with a parameter", b"Transfer-Encoding: chunked;a=b"),
    _coding("empty", b"Transfer-Encoding:"),
    _coding("empty and chunked", b"Transfer-Encoding:", b"Transfer-Encoding: chunked"),
    _coding("behind a no-break space", b"Transfer-Encoding: \xa0chunked"),
    _coding("before a vertical tab", b"Transfer-Encoding: chunked\x0b"),
    _coding("before a NUL", b"Transfer-Encoding: chunked\x00"),
    _coding("folded", b"Transfer-Encoding:\r\n chunked", rfc="RFC 9112, section 5.2"),
    _coding("with a space before the colon", b"Transfer-Encoding : chunked", rfc="RFC 9112, section 5.1"),
    _coding("with a tab before the colon", b"Transfer-Encoding\t: chunked", rfc="RFC 9112, section 5.1"),
    _coding("behind a bare CR", b"X-A: 1\rTransfer-Encoding: chunked", rfc="RFC 9112, section 2.2"),
    _coding("behind a bare LF", b"X-A: 1\nTransfer-Encoding: chunked", rfc="RFC 9112, section 2.2"),
    Refused(
        name="Transfer-Encoding in HTTP 1.0",
        rfc="RFC 9112, section 6.1",
        sent=head(b"POST / HTTP/1.0", b"Host: test", b"Transfer-Encoding: chunked") + HELLO,
    ),
    Refused(
        name="Transfer-Encoding with Content-Length in HTTP 1.0",
        rfc="RFC 9112, section 6.1",
        sent=head(b"POST / HTTP/1.0", b"Host: test", b"Transfer-Encoding: chunked", b"Content-Length: 15")
        + HELLO,
    ),
]


def _passes(name: str, rfc: str, sent: bytes, **expected: object) -> Forwarded:
    return Forwarded(name=name, rfc=rfc, sent=sent, line=b"POST / HTTP/1.1", **expected)  # type: ignore[arg-type]


FORWARDED = [
    _passes(
        "body of known length",
        "RFC 9112, section 6.2",
        post(b"Content-Length: 5", body=b"hello"),
        framing="length",
        body=b"hello",
    ),
    _passes(
        "length with leading zeros",
        "RFC 9110, section 8.6",
        post(b"Content-Length: 005", body=b"hello"),
        framing="length",
        body=b"hello",
    ),
    _passes(
        "length zero",
        "RFC 9110, section 8.6",
        post(b"Content-Length: 0"),
        fields=(b"Content-Length: 0",),
        framing="length",
    ),
    _passes(
        "POST without a body",
        "RFC 9112, section 6.3",
        post(),
        absent=("Transfer-Encoding",),
    ),
    _passes(
        "body that looks like a request",
        "RFC 9112, section 6.2",
        post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
        framing="length",
        body=SMUGGLED,
    ),
    _passes(
        "body of all octets",
        "RFC 9112, section 6",
        post(b"Content-Length: 256", body=bytes(range(256))),
        framing="length",
        body=bytes(range(256)),
    ),
    Forwarded(
        name="GET with a body",
        rfc="RFC 9110, section 9.3.1",
        sent=get(b"Content-Length: 5") + b"hello",
        framing="length",
        body=b"hello",
    ),
    Forwarded(
        name="DELETE with a chunked body",
        rfc="RFC 9112, section 6.3",
        sent=head(b"DELETE / HTTP/1.1", b"Host: test", b"Transfer-Encoding: chunked") + HELLO,
        line=b"DELETE / HTTP/1.1",
        framing="chunked",
        body=b"hello",
    ),
    _passes(
        "chunked body",
        "RFC 9112, section 7.1",
        chunked(HELLO),
        framing="chunked",
        body=b"hello",
        absent=("Content-Length",),
    ),
    _passes(
        "coding in capitals",
        "RFC 9112, section 7",
        post(b"Transfer-Encoding: CHUNKED", body=HELLO),
        framing="chunked",
        body=b"hello",
    ),
    _passes(
        "coding with white space around it",
        "RFC 9110, section 5.5",
        post(b"Transfer-Encoding: \tchunked \t", body=HELLO),
        framing="chunked",
        body=b"hello",
    ),
    _passes(
        "body of HTTP 1.0",
        "RFC 9112, section 6.2",
        head(b"POST / HTTP/1.0", b"Host: test", b"Content-Length: 5") + b"hello",
        framing="length",
        body=b"hello",
        persistent=False,
    ),
]
