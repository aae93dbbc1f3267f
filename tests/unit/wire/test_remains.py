from sidecar.wire.head import Limits
from sidecar.wire.remains import Remains, remains

LIMITS = Limits(header_bytes=64, headers=10, request_line=32)


def test_a_whole_head():
    found = remains(b"POST /a?b HTTP/1.1\r\nAccept: x\r\naccept:  y \r\n\r\nbody", LIMITS)
    assert found == Remains(b"POST", b"/a?b", (b"Accept: x", b"accept:  y "))
    assert found.values(b"accept") == [b"x", b"y"]


def test_a_line_that_was_cut_off_does_not_count():
    found = remains(b"GET / HTTP/1.1\r\nX-Request-ID: abc\r\nX-Correlation-ID: ab", LIMITS)
    assert found.values(b"x-request-id") == [b"abc"]
    assert not found.values(b"x-correlation-id")


def test_a_first_line_that_is_none():
    for line in (b"GET /", b"GET  / HTTP/1.1", b"GET /\x7f HTTP/1.1", b"G(T / HTTP/1.1", b""):
        found = remains(line + b"\r\nHost: a\r\n\r\n", LIMITS)
        assert (found.method, found.target) == (b"", b"")


def test_the_line_is_told_whatever_the_version():
    assert remains(b"PRI * HTTP/2.0\r\n\r\n", LIMITS)[:2] == (b"PRI", b"*")


def test_empty_lines_before_it():
    assert remains(b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", LIMITS).method == b"GET"


def test_a_first_line_that_is_too_long_is_not_repeated():
    found = remains(b"GET /" + b"a" * 30 + b" HTTP/1.1\r\nA: b\r\n\r\n", LIMITS)
    assert found == Remains(b"", b"", (b"A: b",))


def test_no_more_is_looked_at_than_a_good_head_may_have():
    found = remains(b"GET / HTTP/1.1\r\nA: " + b"a" * 64 + b"\r\nB: c\r\n\r\n", LIMITS)
    assert not found.values(b"b")


def test_nothing():
    assert remains(b"", LIMITS) == Remains(b"", b"", (b"",))
