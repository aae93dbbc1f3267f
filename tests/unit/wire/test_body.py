import pytest

from sidecar.errors import BadRequest
from sidecar.wire.body import NO_BODY, ChunkedBody, LengthBody, UntilCloseBody, chunk, last_chunk
from sidecar.wire.head import Limits


def chunked(limits=Limits()):  # noqa: B008 - immutable
    return ChunkedBody(limits, lambda message, reason: BadRequest(message, reason=reason))


class TestNoBody:
    def test_it_has_ended_before_it_begins(self):
        assert NO_BODY.done

    def test_whoever_feeds_it_has_lost_count(self):
        with pytest.raises(AssertionError, match="has no octets"):
            NO_BODY.feed(b"x")


class TestKnownLength:
    def test_nothing_to_come(self):
        assert LengthBody(0).done

    def test_it_is_counted_however_it_comes(self):
        body = LengthBody(5)
        assert (body.feed(b"he"), body.done) == (b"he", False)
        assert (body.feed(b"llo"), body.done, body.rest) == (b"llo", True, b"")

    def test_what_is_behind_it_is_not_part_of_it(self):
        body = LengthBody(5)
        assert body.feed(b"helloGET") == b"hello"
        assert (body.done, body.rest) == (True, b"GET")


class TestUntilClose:
    def test_everything_belongs_to_it_until_the_end(self):
        body = UntilCloseBody()
        assert (body.feed(b"hello"), body.done) == (b"hello", False)
        body.end()
        assert body.done


class TestChunked:
    def test_framing_is_taken_off(self):
        body = chunked()
        assert body.feed(b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\nGET") == b"hello"
        assert (body.done, body.rest, body.trailers) == (True, b"GET", [])

    def test_a_size_in_several_pieces(self):
        body = chunked()
        assert [body.feed(piece) for piece in (b"0", b"0a", b"\r", b"\n0123", b"456789", b"\r")] == [
            *(b"", b"", b"", b"0123", b"456789", b"")
        ]
        assert body.feed(b"\n0\r\n\r") == b""
        assert not body.done
        body.feed(b"\n")
        assert body.done

    def test_trailers_are_kept_but_for_those_that_frame_route_or_identify(self):
        body = chunked()
        body.feed(b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\nHost: x\r\nCookie: a\r\nx-b:\r\n\r\n")
        assert body.trailers == [b"X-Sum: 1", b"x-b:"]

    @pytest.mark.parametrize(
        "octets",
        [
            *(
                b"\r\n",
                b"x\r\n",
                b"0x5\r\n",
                b"+5\r\n",
                b"5 \r\n",
                b" 5\r\n",
                b"5\n",
                b"5\r\r\n",
                b"5\x0b\r\n",
            ),
            *(
                b"1" * 16 + b"\r\n",
                b"5;\r\n",
                b'5;a="\r\n',
                b'5;a="\n"\r\n',
                b"5;a=b \r\n",
                b"5" + b"a" * 1100,
            ),
            *(b"1\r\nab", b"1\r\na\n", b"1\r\na\rb", b"1\r\na\n\r", b"1\r\na0\r\n\r\n"),
            *(
                b"0\r\nX A: 1\r\n\r\n",
                b"0\r\n X: 1\r\n\r\n",
                b"0\r\nX: 1\n\r\n",
                b"0\r\nX\r\n\r\n",
                b"0\r\n: 1\r\n\r\n",
            ),
        ],
    )
    def test_malformed_framing_raises_what_the_caller_wants(self, octets):
        with pytest.raises(BadRequest):
            chunked().feed(octets)

    def test_trailers_are_bounded_while_they_come(self):
        body = chunked(Limits(header_bytes=20))
        body.feed(b"0\r\nX-A: ")
        with pytest.raises(BadRequest):
            body.feed(b"a" * 20)


def test_chunks_are_written_as_they_are_read():
    trailers = [b"X-A: 1", b"X-B: 2"]
    body = chunked()
    assert body.feed(chunk(b"a" * 300) + chunk(b"b") + last_chunk(trailers)) == b"a" * 300 + b"b"
    assert body.trailers == trailers
    assert chunk(b"a" * 300).startswith(b"12c\r\n")
    assert last_chunk([]) == b"0\r\n\r\n"
