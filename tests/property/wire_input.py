"""Octets for the readers of the wire: good messages, bad ones, and good ones that were spoilt."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from tests.conformance import answer_body, answer_head, answer_interim
from tests.conformance import test_requests as request_tables
from tests.conformance.vectors import whole

_LONGEST = 1500  # octets; what a longer vector shows is a limit, which has tests of its own

REQUESTS = [
    octets
    for vector in (*request_tables.REFUSED, *request_tables.FORWARDED)
    if len(octets := b"".join(whole(vector.sent))) <= _LONGEST
]
RESPONSES = [
    octets
    for table in (
        *(answer_head.MALFORMED, answer_head.BROKEN_OFF, answer_head.GOOD),
        *(answer_body.FRAMING_REFUSED, answer_body.CHUNKS_REFUSED, answer_body.SURPLUS),
        *(answer_body.TRUNCATED, answer_body.GOOD, answer_interim.GOOD, answer_interim.REFUSED),
    )
    for vector in table
    if 0 < len(octets := b"".join(step for step in vector.script if isinstance(step, bytes))) <= _LONGEST
]

_TEXT = st.sampled_from(
    [b"", b"1", b"a b", b" \tx\t ", b"\xe9\xa0\x85", b"close", b"a,b , c", b"\x0b", b"\x00"]
)
_NAMES = st.sampled_from([b"X-A", b"x-b", b"Accept", b"Via", b"!#$%&'*+-.^_`|~09", b"X A", b"", b"X-A "])
_ANY_FIELD = st.tuples(_NAMES, _TEXT).map(b":".join)
_REQUEST_FIELD = st.sampled_from(
    [
        *(b"Host: test", b"Host: other", b"Host:", b"Connection: close", b"Connection: keep-alive, X-A"),
        *(b"Connection: Upgrade, TE", b"Upgrade: websocket", b"Upgrade: h2c", b"TE: trailers", b"TE: gzip"),
        *(b"Expect: 100-continue", b"Expect: x", b"Idempotency-Key: k", b" folded", b"no colon"),
    ]
)
_RESPONSE_FIELD = st.sampled_from(
    [
        *(b"Connection: close", b"Connection: keep-alive, X-A", b"Connection: Upgrade", b"Upgrade: x"),
        *(b"Server: s", b"Content-Type: text/event-stream", b"Retry-After: 1", b" folded", b"no colon"),
    ]
)
_LENGTH = st.sampled_from([b"0", b"1", b"5", b"05", b"5, 5", b"+5", b"", b"5 5", b"-0", b"\xa05", b"1" * 19])
_CODING = st.sampled_from(
    [b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"\x0bchunked", b""]
)
_FRAMING = st.one_of(
    st.just([]),
    st.just([]),
    _LENGTH.map(lambda it: [b"Content-Length: " + it]),
    _LENGTH.map(lambda it: [b"Content-Length: " + it]),
    _CODING.map(lambda it: [b"Transfer-Encoding: " + it]),
    st.just([b"Transfer-Encoding: chunked"]),
    st.tuples(_LENGTH, _CODING).map(lambda it: [b"Content-Length:" + it[0], b"Transfer-Encoding:" + it[1]]),
    st.tuples(_LENGTH, _LENGTH).map(lambda it: [b"Content-Length: " + it[0], b"content-length: " + it[1]]),
)
_METHOD = st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"M-SEARCH", b"G/T", b""])
_TARGET = st.sampled_from(
    [
        *(b"/", b"/a?b=c", b"*", b"http://test", b"http://test/x?y", b"HTTP://other:80/", b"/#", b"a", b""),
        *(b"http://u@test/", b"/" + b"a" * 40, b"http://test?q", b"/\xe9"),
    ]
)
_VERSION = st.sampled_from([*[b"HTTP/1.1"] * 6, b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b""])
_STATUS = st.sampled_from(
    [
        *[b"200 OK"] * 4,
        b"100 Continue",
        b"103 x",
        b"101 Switch",
        b"204 No Content",
        b"304 NM",
        b"404",
        b"500 ",
    ]
)
_EXTENSION = st.sampled_from([*[b""] * 5, b";a", b";a=b", b' ; a = "b;\\" c"', b";", b' ;a="', b"\t"])
_SIZE_FORM = st.sampled_from([b"%x", b"%x", b"%X", b"00%x", b"0x%x", b"+%x", b" %x"])


@st.composite
def _chunk(draw) -> bytes:
    payload = draw(st.binary(min_size=1, max_size=20))
    return b"%b%b\r\n%b\r\n" % (draw(_SIZE_FORM) % len(payload), draw(_EXTENSION), payload)


@st.composite
def _good_chunks(draw) -> bytes:
    payloads = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    trailers = draw(st.lists(st.sampled_from([b"X-A: 1", b"X-B:", b"Content-Length: 9"]), max_size=2))
    extension = draw(st.sampled_from([b"", b"", b";a=b", b';a="b;\\" c"']))
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(payload), extension, payload) for payload in payloads)
    return b"%b0\r\n%b\r\n" % (chunks, b"".join(trailer + b"\r\n" for trailer in trailers))


_TRAILERS = st.lists(st.one_of(st.just(b"X-Sum: 1"), _ANY_FIELD), max_size=2).map(
    lambda lines: b"0\r\n%b\r\n" % b"".join(line + b"\r\n" for line in lines)
)
_CHUNKS = st.tuples(st.lists(_chunk(), max_size=3).map(b"".join), _TRAILERS).map(b"".join)
_BODY = st.one_of(st.just(b""), st.just(b"hello"), st.binary(max_size=8), _good_chunks(), _CHUNKS)


@st.composite
def _head(
    draw, first: st.SearchStrategy[bytes], field: st.SearchStrategy[bytes], certain: list[bytes]
) -> bytes:
    lines = [
        *certain,
        *draw(st.lists(st.one_of(field, _ANY_FIELD), max_size=3)),
        *draw(_FRAMING),
    ]
    return b"\r\n".join([draw(first), *draw(st.permutations(lines)), b"", b""])


_REQUEST_LINE = st.tuples(_METHOD, _TARGET, _VERSION).map(b" ".join)
_STATUS_LINE = st.tuples(_VERSION, _STATUS).map(b" ".join)
_PLAIN_FIELD = st.sampled_from(
    [
        b"X-A: 1",
        b"Accept: */*",
        b"Connection: keep-alive",
        b"Connection: X-A, close",
        b"x-b:\t\xa0 b ",
        b"X-A:",
    ]
)


@st.composite
def _good(draw, first: st.SearchStrategy[bytes], certain: list[bytes]) -> bytes:
    """A message without fault, with any kind of body."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    framing, body = [], b""
    if kind == "length":
        body = draw(st.binary(max_size=20))
        framing = [draw(st.sampled_from([b"Content-Length: %d", b"content-length:00%d\t"])) % len(body)]
    elif kind == "chunked":
        body = draw(_good_chunks())
        framing = [draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED "]))]
    lines = [*certain, *draw(st.lists(_PLAIN_FIELD, max_size=3)), *framing]
    return b"\r\n".join([draw(first), *draw(st.permutations(lines)), b"", body])


_GOOD_LINE = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"HEAD http://test HTTP/1.1", b"OPTIONS * HTTP/1.1"]
)
_GOOD_STATUS_LINE = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 304 x", b"HTTP/1.1 103 Early Hints"]
)
_GOOD_REQUEST = _good(_GOOD_LINE, [b"Host: test"])
_GOOD_RESPONSE = _good(_GOOD_STATUS_LINE, [])
_ODD_REQUEST = st.tuples(
    st.one_of(
        _head(_REQUEST_LINE, _REQUEST_FIELD, [b"Host: test"]), _head(_REQUEST_LINE, _REQUEST_FIELD, [])
    ),
    _BODY,
).map(b"".join)
_ODD_RESPONSE = st.tuples(_head(_STATUS_LINE, _RESPONSE_FIELD, []), _BODY).map(b"".join)

_HARMFUL = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b"\x0b", b":", b",", b";", b"0", b"5"),
        *(b"\xa0", b"\xff", b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 5", b"0\r\n\r\n"),
    ]
)


@st.composite
def _mutated(draw, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message in which a few octets were removed, doubled, or put in."""
    octets = draw(messages)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(octets)))
        end = place + draw(st.integers(0, 6))
        kind = draw(st.sampled_from(["remove", "double", "insert", "replace"]))
        if kind == "remove":
            octets = octets[:place] + octets[end:]
        elif kind == "double":
            octets = octets[:end] + octets[place:]
        else:
            octets = octets[:place] + draw(_HARMFUL) + octets[place if kind == "insert" else end :]
    return octets


def _streams(
    good: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes], vectors: list[bytes]
) -> st.SearchStrategy[bytes]:
    """What one connection may bring: one message or several, each perhaps spoilt, or anything at all."""
    vector = st.sampled_from(vectors)
    message = st.one_of(good, good, good, odd, vector, _mutated(st.one_of(good, odd, vector)))
    return st.one_of(
        st.lists(good, min_size=1, max_size=3).map(b"".join),
        st.lists(message, min_size=1, max_size=3).map(b"".join),
        st.tuples(good, message).map(b"".join),
        st.binary(max_size=60),
    )


requests = _streams(_GOOD_REQUEST, _ODD_REQUEST, REQUESTS)
responses = _streams(_GOOD_RESPONSE, _ODD_RESPONSE, RESPONSES)
methods = st.sampled_from([b"GET", b"GET", b"POST", b"HEAD"])


@st.composite
def pieces(draw, octets: bytes) -> list[bytes]:
    """``octets`` as they may arrive: in any pieces at all, or one by one."""
    size = len(octets)
    if draw(st.booleans()):
        return [octets[place : place + 1] for place in range(size)]
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=8)) | {0, size})
    return [octets[start:end] for start, end in pairwise(cuts)]
