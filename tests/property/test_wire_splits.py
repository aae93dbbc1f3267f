"""However the octets of a connection are cut into reads, they mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import BadRequest, HeadersTooLarge, NotSupported, UpstreamProtocolError, UriTooLong
from sidecar.wire.body import chunk, last_chunk
from sidecar.wire.head import Limits
from tests.conformance.vectors import octets
from tests.property import wire_input
from tests.support.transcript import read_requests, read_responses

REFUSALS = {BadRequest, UriTooLong, HeadersTooLarge, NotSupported}
TIGHT = Limits(header_bytes=80, headers=3, request_line=24)
HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestRequests:
    @settings(max_examples=250, deadline=None)
    @given(st.data())
    def test_any_split_reads_the_same(self, data):
        stream = data.draw(wire_input.requests)
        pieces = data.draw(wire_input.pieces(stream))
        assert read_requests(pieces).facts() == read_requests([stream]).facts()

    @pytest.mark.parametrize("stream", wire_input.REQUESTS, ids=repr)
    def test_every_vector_octet_by_octet(self, stream):
        assert read_requests(octets(stream)).facts() == read_requests([stream]).facts()

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_limits_let_the_same_messages_pass(self, data):
        """Which of several limits was broken first may depend on what was seen first."""
        stream = data.draw(wire_input.requests)
        split = read_requests(data.draw(wire_input.pieces(stream)), TIGHT)
        joined = read_requests([stream], TIGHT)
        assert [it.whole for it in split.messages] == [it.whole for it in joined.messages]
        assert (split.fault is None) == (joined.fault is None)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(wire_input.requests, st.binary(max_size=200)), st.sampled_from([Limits(), TIGHT]))
    def test_nothing_raises_anything_but_a_refusal(self, stream, limits):
        fault = read_requests([stream], limits).fault
        assert fault is None or type(fault) in REFUSALS


class TestResponses:
    @settings(max_examples=250, deadline=None)
    @given(st.data())
    def test_any_split_reads_the_same(self, data):
        stream, method = data.draw(wire_input.responses), data.draw(wire_input.methods)
        pieces = data.draw(wire_input.pieces(stream))
        assert read_responses(pieces, method).facts() == read_responses([stream], method).facts()

    @pytest.mark.parametrize("stream", wire_input.RESPONSES, ids=repr)
    def test_every_vector_octet_by_octet(self, stream):
        assert read_responses(octets(stream)).facts() == read_responses([stream]).facts()

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(wire_input.responses, st.binary(max_size=200)), st.sampled_from([Limits(), TIGHT]))
    def test_nothing_raises_anything_but_a_protocol_error(self, stream, limits):
        fault = read_responses([stream], limits=limits).fault
        assert fault is None or type(fault) is UpstreamProtocolError


class TestChunks:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=60), max_size=5), st.data())
    def test_what_is_written_is_read_back(self, payloads, data):
        trailers = data.draw(st.lists(st.sampled_from([b"X-Sum: 1", b"X-Empty:", b"x-b: \xff"]), max_size=3))
        stream = HEAD + b"".join(map(chunk, payloads)) + last_chunk(trailers) + b"GET"
        read = read_requests(data.draw(wire_input.pieces(stream)))
        assert read.fault is None
        assert read.messages[0].whole
        assert read.messages[0].payload == b"".join(payloads)
        assert read.messages[0].trailers == trailers
        assert read.left == b"GET"


class TestLimitsAtTheirEdge:
    """What is just within a limit is read however it comes; one octet more is refused however it comes."""

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, UriTooLong)])
    def test_the_request_line(self, extra, refused):
        limits = Limits(request_line=100)
        target = b"/" * (100 + extra - len(b"GET  HTTP/1.1"))
        stream = b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % target
        self.check(stream, limits, refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, HeadersTooLarge)])
    def test_the_whole_head(self, extra, refused):
        start, end = b"GET / HTTP/1.1\r\nHost: test\r\nX-A: ", b"\r\n\r\n"
        stream = start + b"a" * (200 + extra - len(start + end)) + end
        self.check(stream, Limits(header_bytes=200), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, HeadersTooLarge)])
    def test_the_number_of_fields(self, extra, refused):
        fields = b"".join(b"X-%d: 1\r\n" % number for number in range(9 + extra))
        self.check(b"GET / HTTP/1.1\r\nHost: test\r\n%b\r\n" % fields, Limits(headers=10), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, BadRequest)])
    def test_a_chunks_size_line(self, extra, refused):
        line = b"5;" + b"a" * (1024 + extra - 2)
        self.check(HEAD + line + b"\r\nhello\r\n0\r\n\r\n", Limits(), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, BadRequest)])
    def test_all_chunk_extensions(self, extra, refused):
        """A body may carry 16 KiB of them."""
        lines = [b"1;" + b"a" * 1021 + b"\r\n-\r\n"] * 16
        rest = 16 * 1024 - 16 * 1022
        last = b"0;" + b"a" * (rest + extra - 1) + b"\r\n\r\n"
        self.check(HEAD + b"".join(lines) + last, Limits(), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, BadRequest)])
    def test_the_trailers(self, extra, refused):
        trailers = b"X-A: " + b"a" * (200 + extra - len(b"X-A: \r\n\r\n"))
        self.check(HEAD + b"0\r\n%b\r\n\r\n" % trailers, Limits(header_bytes=200), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, BadRequest)])
    def test_the_number_of_trailers(self, extra, refused):
        trailers = b"".join(b"X-%d: 1\r\n" % number for number in range(10 + extra))
        self.check(HEAD + b"0\r\n%b\r\n" % trailers, Limits(headers=10), refused)

    @pytest.mark.parametrize(("extra", "refused"), [(0, None), (1, BadRequest)])
    def test_empty_lines_before_a_request(self, extra, refused):
        self.check(b"\r\n" * (2 + extra) + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", Limits(), refused)

    def test_trailers_that_come_octet_by_octet_are_not_searched_anew_each_time(self):
        """Quadratic work on 60,000 octets would take minutes."""
        trailers = b"X-A: " + b"a" * 60_000
        assert read_requests(octets(HEAD + b"0\r\n%b\r\n\r\n" % trailers)).messages[0].trailers == [trailers]

    def test_octets_of_a_second_message_do_not_count(self):
        stream = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 20
        assert len(read_requests([stream], Limits(header_bytes=40)).messages) == 20

    def check(self, stream, limits, refused):
        middle = len(stream) // 2
        for pieces in ([stream], octets(stream), [stream[:middle], stream[middle:]]):
            read = read_requests(pieces, limits)
            if refused is None:
                assert read.fault is None
                assert read.messages[0].whole
            else:
                assert type(read.fault) is refused
                assert not any(message.whole for message in read.messages)
