from sidecar.wire.head import Limits
from sidecar.wire.remains import Remains, remains
from tests.unit.wire.messages import GET, lines

LIMITS = Limits(header_bytes=100, request_line=30)


def test_of_a_whole_head():
    left = remains(lines(GET, b"X-Correlation-ID: c", b"no colon") + b"body", LIMITS)
    assert (left.method, left.target) == (b"GET", b"/")
    assert left.values(b"x-correlation-id") == [b"c"]


def test_the_last_line_of_half_a_head_may_be_cut_off():
    assert remains(GET + b"\r\nX-A: 1\r\nX-B: 2", LIMITS).lines == (b"X-A: 1",)


def test_nothing_is_read_into_a_line_that_is_no_request_line():
    for line in (b"GET  / HTTP/1.1", b"GET /", b"GET /" + b"a" * 40 + b" HTTP/1.1"):
        left = remains(lines(line, b"X-A: 1"), LIMITS)
        assert (left.method, left.target, left.values(b"x-a")) == (b"", b"", [b"1"])


def test_no_more_is_looked_at_than_a_good_head_may_have():
    stream = lines(GET, b"X-A: " + b"a" * 100, b"X-B: 1")
    assert remains(stream, LIMITS).values(b"x-b") == []


def test_empty_lines_and_nothing():
    assert remains(b"\r\n" + lines(GET), LIMITS).method == b"GET"
    assert remains(b"", LIMITS) == Remains(lines=(b"",))
