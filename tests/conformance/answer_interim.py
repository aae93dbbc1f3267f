"""Interim answers and protocol changes: RFC 9110, section 15.2, RFC 8297, RFC 6455."""

from __future__ import annotations

from tests.conformance.vectors import Answered, get, head, post

OK = head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
CONTINUE = head(b"HTTP/1.1 100 Continue")
PROCESSING = head(b"HTTP/1.1 102 Processing")
HINTS = head(b"HTTP/1.1 103 Early Hints", b"Link: </a.css>; rel=preload")
EXPECTS = post(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello", target=b"/answer")
UPGRADE = get(b"Connection: Upgrade", b"Upgrade: websocket", target=b"/answer")
OLD = head(b"GET /answer HTTP/1.0", b"Host: test")


def _switch(*lines: bytes) -> bytes:
    return head(b"HTTP/1.1 101 Switching Protocols", *lines)


GOOD = [
    Answered(
        name="early hints",
        rfc="RFC 8297, section 2",
        script=[HINTS, OK],
        interim=(103,),
        body=b"ok",
    ),
    Answered(
        name="early hints in one piece with the answer",
        rfc="RFC 8297, section 2",
        script=[HINTS + OK],
        interim=(103,),
        body=b"ok",
    ),
    Answered(
        name="processing",
        rfc="RFC 2518, section 10.1",
        script=[PROCESSING + OK],
        interim=(102,),
        body=b"ok",
    ),
    Answered(
        name="continue and early hints",
        rfc="RFC 9110, section 10.1.1",
        request=EXPECTS,
        script=[CONTINUE + HINTS + OK],
        interim=(100, 103),
        body=b"ok",
    ),
    Answered(
        name="no interim answer for a client of HTTP 1.0",
        rfc="RFC 9110, section 15.2",
        request=OLD,
        script=[HINTS + OK],
        interim=(),
        body=b"ok",
    ),
    Answered(
        name="answer instead of an upgrade",
        rfc="RFC 9110, section 7.8",
        request=UPGRADE,
        script=[OK],
        body=b"ok",
    ),
    Answered(
        name="426 with the protocol wanted",
        rfc="RFC 9110, section 15.5.22",
        script=[head(b"HTTP/1.1 426 Upgrade Required", b"Content-Length: 0")],
        status=426,
        body=b"",
    ),
]


def _bad(name: str, rfc: str, answer: bytes, request: bytes = b"", **expected: object) -> Answered:
    options = {"request": request} if request else {}
    return Answered(name=name, rfc=rfc, script=[answer], status=502, reused=False, **options, **expected)  # type: ignore[arg-type]


REFUSED = [
    _bad("continue that nobody asked for", "RFC 9110, section 10.1.1", CONTINUE + OK),
    _bad("continue twice", "RFC 9110, section 10.1.1", CONTINUE + CONTINUE + OK, EXPECTS, interim=None),
    _bad(
        "switch that nobody asked for",
        "RFC 9110, section 7.8",
        _switch(b"Connection: Upgrade", b"Upgrade: x"),
    ),
    _bad("switch without Upgrade", "RFC 9110, section 7.8", _switch(), UPGRADE),
    _bad(
        "switch to another protocol",
        "RFC 9110, section 7.8",
        _switch(b"Connection: Upgrade", b"Upgrade: other"),
        UPGRADE,
    ),
    _bad(
        "switch for a client of HTTP 1.0",
        "RFC 9110, section 7.8",
        _switch(b"Connection: Upgrade", b"Upgrade: websocket"),
        head(b"GET /answer HTTP/1.0", b"Host: test", b"Connection: Upgrade", b"Upgrade: websocket"),
    ),
    _bad("interim answer with an impossible status", "RFC 9112, section 4", head(b"HTTP/1.1 1xx No") + OK),
    _bad("interim answers without end", "RFC 9110, section 15.2", HINTS * 2000, interim=None),
]
