"""Request lines: RFC 9112, section 3, and RFC 9110, sections 4 and 9."""

from __future__ import annotations

from tests.conformance.vectors import Forwarded, Refused, get, head

HOST = b"Host: test"


def _line(name: str, line: bytes, rfc: str = "RFC 9112, section 3", status: int = 400) -> Refused:
    return Refused(name=name, rfc=rfc, sent=head(line, HOST), status=status)


REFUSED = [
    _line("no version", b"GET /"),
    _line("two spaces before the target", b"GET  / HTTP/1.1"),
    _line("two spaces before the version", b"GET /  HTTP/1.1"),
    _line("space after the version", b"GET / HTTP/1.1 "),
    _line("space before the method", b" GET / HTTP/1.1"),
    _line("tab between the parts", b"GET\t/\tHTTP/1.1"),
    _line("form feed between the parts", b"GET\x0c/\x0cHTTP/1.1"),
    _line("no target", b"GET HTTP/1.1"),
    _line("no method", b"/ HTTP/1.1"),
    _line("four parts", b"GET / x HTTP/1.1"),
    _line("method with a slash", b"GE/T / HTTP/1.1", "RFC 9110, section 9.1"),
    _line("method with a NUL", b"GE\x00T / HTTP/1.1", "RFC 9110, section 9.1"),
    _line("method with a byte over 127", b"GET\xff / HTTP/1.1", "RFC 9110, section 9.1"),
    _line("method in parentheses", b"(GET) / HTTP/1.1", "RFC 9110, section 9.1"),
    _line("method with a colon", b"GET: / HTTP/1.1", "RFC 9110, section 9.1"),
    _line("version in lower case", b"GET / http/1.1", "RFC 9112, section 2.3"),
    _line("version 0.9", b"GET / HTTP/0.9", "RFC 9112, section 2.3"),
    _line("version 2.0", b"GET / HTTP/2.0", "RFC 9112, section 2.3"),
    _line("version 3.0", b"GET / HTTP/3.0", "RFC 9112, section 2.3"),
    _line("version 9.9", b"GET / HTTP/9.9", "RFC 9112, section 2.3"),
    _line("version without a minor number", b"GET / HTTP/1", "RFC 9112, section 2.3"),
    _line("version ending in its dot", b"GET / HTTP/1.", "RFC 9112, section 2.3"),
    _line("version without a major number", b"GET / HTTP/.1", "RFC 9112, section 2.3"),
    _line("version with two digits", b"GET / HTTP/1.10", "RFC 9112, section 2.3"),
    _line("version with a letter", b"GET / HTTP/1.1a", "RFC 9112, section 2.3"),
    _line("version with a comma", b"GET / HTTP/1,1", "RFC 9112, section 2.3"),
    _line("version with a sign", b"GET / HTTP/+1.1", "RFC 9112, section 2.3"),
    _line("version of another protocol", b"GET / ICAP/1.1", "RFC 9112, section 2.3"),
    _line("fragment in the target", b"GET /a#b HTTP/1.1", "RFC 9112, section 3.2"),
    _line("fragment in an absolute target", b"GET http://test/#b HTTP/1.1", "RFC 9112, section 3.2.2"),
    _line("fragment alone", b"GET # HTTP/1.1", "RFC 9112, section 3.2"),
    _line("NUL in the target", b"GET /a\x00b HTTP/1.1", "RFC 9112, section 3.2"),
    _line("vertical tab in the target", b"GET /a\x0bb HTTP/1.1", "RFC 9112, section 3.2"),
    _line("DEL in the target", b"GET /a\x7fb HTTP/1.1", "RFC 9112, section 3.2"),
    _line("bytes over 127 in the target", b"GET /\xc3\xa9 HTTP/1.1", "RFC 3986, section 2"),
    _line("target without its slash", b"GET a HTTP/1.1", "RFC 9112, section 3.2.1"),
    _line("target that is a query", b"GET ?a=b HTTP/1.1", "RFC 9112, section 3.2.1"),
    _line("asterisk with another method than OPTIONS", b"GET * HTTP/1.1", "RFC 9112, section 3.2.4"),
    _line("authority with another method than CONNECT", b"GET test:80 HTTP/1.1", "RFC 9112, section 3.2.3"),
    _line("absolute target of another host", b"GET http://evil/ HTTP/1.1", "RFC 9112, section 3.2.2"),
    _line("absolute target of another port", b"GET http://test:81/ HTTP/1.1", "RFC 9112, section 3.2.2"),
    _line("absolute target with userinfo", b"GET http://a@test/ HTTP/1.1", "RFC 9110, section 4.2.4"),
    _line("absolute target without a host", b"GET http:///a HTTP/1.1", "RFC 9110, section 4.2.1"),
    _line("absolute target of a foreign scheme", b"GET ftp://test/ HTTP/1.1", "RFC 9112, section 3.2.2"),
    _line("CONNECT", b"CONNECT test:443 HTTP/1.1", "RFC 9110, section 9.3.6", 501),
    Refused(
        name="CONNECT with its own authority as Host",
        rfc="RFC 9110, section 9.3.6",
        sent=head(b"CONNECT evil:443 HTTP/1.1", b"Host: evil:443"),
        status=501,
    ),
    Refused(
        name="line ended by a bare LF",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\nHost: test\r\n\r\n",
    ),
    Refused(
        name="all lines ended by bare LF",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\nHost: test\n\n",
    ),
    Refused(
        name="line ended by a bare CR",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\rHost: test\r\n\r\n",
    ),
    Refused(
        name="line ended by CR CR LF",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\r\r\nHost: test\r\n\r\n",
    ),
    Refused(
        name="bare LF before the request",
        rfc="RFC 9112, section 2.2",
        sent=b"\n" + get(),
    ),
    Refused(
        name="bare CR before the request",
        rfc="RFC 9112, section 2.2",
        sent=b"\r" + get(),
    ),
    Refused(
        name="space before an empty line before the request",
        rfc="RFC 9112, section 2.2",
        sent=b" \r\n" + get(),
    ),
    Refused(
        name="NUL before the request",
        rfc="RFC 9112, section 2.2",
        sent=b"\x00" + get(),
    ),
    Refused(
        name="byte order mark before the request",
        rfc="RFC 9112, section 2.2",
        sent=b"\xef\xbb\xbf" + get(),
    ),
    Refused(
        name="HTTP 2 connection preface",
        rfc="RFC 9113, section 3.4",
        sent=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ),
    Refused(
        name="HTTP 0.9 request",
        rfc="RFC 9112, section 3",
        sent=b"GET /\r\n\r\n",
    ),
    Refused(
        name="TLS on a plain port",
        rfc="RFC 9112, section 3",
        sent=b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(150)) + b"\r\n\r\n",
    ),
    Refused(
        name="bad request behind a good one",
        rfc="RFC 9112, section 9.3.2",
        sent=get(target=b"/first") + head(b"GET / HTTP/1.1 ", HOST) + get(target=b"/never"),
        after=1,
    ),
    Refused(
        name="target over the limit",
        rfc="RFC 9110, section 15.5.15",
        sent=get(target=b"/" + b"a" * 9000),
        status=414,
    ),
    Refused(
        name="target over the limit and unfinished",
        rfc="RFC 9110, section 15.5.15",
        sent=b"GET /" + b"a" * 9000,
        status=414,
    ),
    Refused(
        name="method over the limit",
        rfc="RFC 9110, section 15.5.15",
        sent=b"A" * 9000,
        status=(400, 414),
    ),
]


def _passes(name: str, line: bytes, rfc: str, *, read: bytes = b"", host: bytes = HOST) -> Forwarded:
    fields = (b"Content-Length: 0",) if line.split(b" ")[0] not in (b"GET", b"HEAD") else ()
    return Forwarded(name=name, rfc=rfc, sent=head(line, host, *fields), line=read or line, fields=(host,))


FORWARDED = [
    _passes("plain GET", b"GET /a/b HTTP/1.1", "RFC 9112, section 3"),
    _passes("query kept as it is", b"GET /a?b=c&&b=%20?/ HTTP/1.1", "RFC 9112, section 3.2.1"),
    _passes("percent encoding kept", b"GET /%7Ea%2fB%c3%A9 HTTP/1.1", "RFC 9110, section 4.2.3"),
    _passes("dot segments kept", b"GET /a/./../b HTTP/1.1", "RFC 9112, section 3.2.1"),
    _passes("empty segments kept", b"GET //a//b HTTP/1.1", "RFC 9112, section 3.2.1"),
    _passes(
        "all unreserved and reserved characters", b"GET /-._~!$&'()*+,;=:@ HTTP/1.1", "RFC 3986, section 3.3"
    ),
    _passes("empty query kept", b"GET /? HTTP/1.1", "RFC 9112, section 3.2.1"),
    _passes("extension method", b"PURGE / HTTP/1.1", "RFC 9110, section 16.1.1"),
    _passes("extension method of odd characters", b"M-!#$%&'*+.^_`|~9 / HTTP/1.1", "RFC 9110, section 9.1"),
    _passes("methods differ by case", b"get / HTTP/1.1", "RFC 9110, section 9.1"),
    _passes("TRACE", b"TRACE / HTTP/1.1", "RFC 9110, section 9.3.8"),
    _passes("DELETE", b"DELETE /a HTTP/1.1", "RFC 9110, section 9.3.5"),
    _passes(
        "absolute target becomes origin form",
        b"GET http://test/a?b HTTP/1.1",
        "RFC 9112, section 3.2.2",
        read=b"GET /a?b HTTP/1.1",
    ),
    _passes(
        "absolute target without a path",
        b"GET http://test HTTP/1.1",
        "RFC 9112, section 3.2.1",
        read=b"GET / HTTP/1.1",
    ),
    _passes(
        "absolute target with a query and no path",
        b"GET http://test?a HTTP/1.1",
        "RFC 9112, section 3.2.1",
        read=b"GET /?a HTTP/1.1",
    ),
    _passes(
        "absolute target with a port",
        b"GET http://test:81/a HTTP/1.1",
        "RFC 9112, section 3.2.2",
        read=b"GET /a HTTP/1.1",
        host=b"Host: test:81",
    ),
    Forwarded(
        name="absolute target and Host differ by case only",
        rfc="RFC 9110, section 4.2.3",
        sent=head(b"GET HTTP://TEST/a HTTP/1.1", HOST),
        line=b"GET /a HTTP/1.1",
    ),
    Forwarded(
        name="empty line before the request",
        rfc="RFC 9112, section 2.2",
        sent=b"\r\n" + get(),
        fields=(HOST,),
    ),
    Forwarded(
        name="target just under the limit",
        rfc="RFC 9112, section 3",
        sent=get(target=b"/" + b"a" * 8000),
        line=b"GET /" + b"a" * 8000 + b" HTTP/1.1",
    ),
    Forwarded(
        name="HTTP 1.0 without Host",
        rfc="RFC 9112, section 3.2",
        sent=head(b"GET /a HTTP/1.0"),
        line=b"GET /a HTTP/1.1",
        persistent=False,
    ),
    Forwarded(
        name="HTTP 1.0 with Host",
        rfc="RFC 9112, section 9.3",
        sent=head(b"GET /a HTTP/1.0", HOST),
        line=b"GET /a HTTP/1.1",
        fields=(HOST,),
        persistent=False,
    ),
]
