"""What is removed, kept and added on the way to the upstream: RFC 9110, section 7.6."""

from __future__ import annotations

from tests.conformance.vectors import Forwarded, get, head, post


def _removed(
    name: str, *lines: bytes, absent: tuple[str, ...], rfc: str = "RFC 9110, section 7.6.1"
) -> Forwarded:
    return Forwarded(
        name=name, rfc=rfc, sent=get(*lines, b"X-Kept: 1"), absent=absent, fields=(b"X-Kept: 1",)
    )


HOP_BY_HOP = [
    _removed("Connection and what it names", b"Connection: X-A", b"X-A: 1", absent=("X-A", "Connection")),
    _removed("names in any case", b"connection: x-A", b"X-a: 1", absent=("X-A",)),
    _removed("names in a list", b"Connection: X-A ,\tX-B,,", b"X-A: 1", b"X-B: 1", absent=("X-A", "X-B")),
    _removed(
        "names on several lines",
        b"Connection: X-A",
        b"X-A: 1",
        b"Connection: X-B",
        b"X-B: 1",
        absent=("X-A", "X-B"),
    ),
    _removed("all lines of a name", b"Connection: X-A", b"X-A: 1", b"X-A: 2", absent=("X-A",)),
    _removed("name that stands before Connection", b"X-A: 1", b"Connection: X-A", absent=("X-A",)),
    _removed("Keep-Alive", b"Keep-Alive: timeout=5", absent=("Keep-Alive",)),
    _removed("Proxy-Connection", b"Proxy-Connection: keep-alive", absent=("Proxy-Connection",)),
    _removed("TE", b"Connection: TE", b"TE: gzip", absent=("TE",), rfc="RFC 9110, section 10.1.4"),
    _removed("TE that Connection does not name", b"TE: gzip", absent=("TE",), rfc="RFC 9110, section 10.1.4"),
    _removed(
        "Upgrade that Connection does not name",
        b"Upgrade: websocket",
        absent=("Upgrade",),
        rfc="RFC 9110, section 7.8",
    ),
    _removed(
        "Upgrade to h2c",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        absent=("Upgrade", "HTTP2-Settings"),
        rfc="RFC 9113, section 3.1",
    ),
    _removed(
        "HTTP2-Settings that Connection does not name",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        absent=("HTTP2-Settings",),
        rfc="RFC 7540, section 3.2.1",
    ),
    Forwarded(
        name="Upgrade in HTTP 1.0",
        rfc="RFC 9110, section 7.8",
        sent=head(b"GET / HTTP/1.0", b"Host: test", b"Connection: Upgrade", b"Upgrade: websocket"),
        absent=("Upgrade", "Connection"),
        persistent=False,
    ),
    Forwarded(
        name="close is for this connection alone",
        rfc="RFC 9112, section 9.6",
        sent=get(b"Connection: close"),
        absent=("Connection",),
        persistent=False,
    ),
    Forwarded(
        name="close beside other options",
        rfc="RFC 9112, section 9.6",
        sent=get(b"Connection: X-A, CLOSE", b"X-A: 1"),
        absent=("Connection", "X-A"),
        persistent=False,
    ),
    Forwarded(
        name="keep-alive is for this connection alone",
        rfc="RFC 9112, section 9.3",
        sent=get(b"Connection: keep-alive"),
        absent=("Connection", "Keep-Alive"),
    ),
    Forwarded(
        name="keep-alive in HTTP 1.0",
        rfc="RFC 9112, section 9.3",
        sent=head(b"GET / HTTP/1.0", b"Host: test", b"Connection: keep-alive"),
        absent=("Connection",),
    ),
]

# A client must not be able to take away what the sidecar or the framing needs.
NOMINATED = [
    Forwarded(
        name="Connection names Host",
        rfc="RFC 9110, section 7.6.1",
        sent=get(b"Connection: Host"),
        fields=(b"Host: test",),
    ),
    Forwarded(
        name="Connection names Content-Length",
        rfc="RFC 9110, section 7.6.1",
        sent=post(b"Connection: Content-Length", b"Content-Length: 5", body=b"hello"),
        line=b"POST / HTTP/1.1",
        framing="length",
        body=b"hello",
    ),
    Forwarded(
        name="Connection names Transfer-Encoding",
        rfc="RFC 9110, section 7.6.1",
        sent=post(
            b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"
        ),
        line=b"POST / HTTP/1.1",
        framing="chunked",
        body=b"hello",
    ),
    Forwarded(
        name="Connection names the forwarding fields",
        rfc="RFC 9110, section 7.6.1",
        sent=get(b"Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Via"),
        fields=(b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Host: test", b"X-Forwarded-Proto: http"),
    ),
]

FORWARDING = [
    Forwarded(
        name="forwarding fields are added",
        rfc="RFC 7239, section 4",
        sent=get(),
        fields=(b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Host: test", b"X-Forwarded-Proto: http"),
    ),
    Forwarded(
        name="X-Forwarded-For is appended to",
        rfc="RFC 7239, section 5.2",
        sent=get(b"X-Forwarded-For: 192.0.2.1"),
        fields=(b"X-Forwarded-For: 192.0.2.1, 127.0.0.1",),
    ),
    Forwarded(
        name="X-Forwarded-For on several lines is appended to",
        rfc="RFC 9110, section 5.3",
        sent=get(b"X-Forwarded-For: 192.0.2.1", b"X-A: 1", b"X-Forwarded-For: 192.0.2.2, 192.0.2.3"),
        fields=(b"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1",),
    ),
    Forwarded(
        name="X-Forwarded-Proto and -Host of a proxy before are kept",
        rfc="RFC 7239, section 5.4",
        sent=get(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: shop.test"),
        fields=(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: shop.test"),
    ),
    Forwarded(
        name="end-to-end fields are kept",
        rfc="RFC 9110, section 7.6.1",
        sent=get(
            b"Accept: */*",
            b"Accept-Encoding: gzip",
            b"Range: bytes=0-1",
            b'If-None-Match: "a"',
            b"Cache-Control: no-cache",
            b"Origin: http://test",
            b"User-Agent: x/1",
            b"Forwarded: for=192.0.2.1",
            b"Trailer: X-Sum",
        ),
        fields=(
            b"Accept: */*",
            b"Accept-Encoding: gzip",
            b"Range: bytes=0-1",
            b'If-None-Match: "a"',
            b"Cache-Control: no-cache",
            b"Origin: http://test",
            b"User-Agent: x/1",
            b"Forwarded: for=192.0.2.1",
        ),
    ),
    Forwarded(
        name="nothing is invented",
        rfc="RFC 9110, section 7.7",
        sent=get(),
        absent=(
            "User-Agent",
            "Accept",
            "Accept-Encoding",
            "Content-Length",
            "Transfer-Encoding",
            "Cookie",
            "Expect",
        ),
    ),
]

CORRELATION = [
    Forwarded(
        name="correlation and request id are taken as they are",
        rfc="the contract, section 3",
        sent=get(b"X-Correlation-ID: a.b:c_d-9", b"X-Request-ID: r-1"),
        fields=(b"X-Correlation-ID: a.b:c_d-9", b"X-Request-ID: r-1"),
    ),
    Forwarded(
        name="the longest correlation id",
        rfc="the contract, section 3",
        sent=get(b"x-correlation-id: " + b"a" * 100),
        fields=(b"X-Correlation-ID: " + b"a" * 100,),
    ),
]
