"""A message that is accepted has one length: h11, an independent reader, sees it end at the same octet.

What h11 takes and the sidecar refuses (folded fields, bare LF, both framings at once, equal lengths given
twice, control characters in values, codings in HTTP/1.0) is no matter here: the sidecar passes none of it on.
The other way round, h11 refuses white space before the ``;`` of a chunk extension, which RFC 9112, section
7.1.1, allows. That says nothing of lengths, and is the only difference that these tests let pass.
"""

from __future__ import annotations

from typing import NamedTuple

import h11
from hypothesis import example, given, settings

from sidecar.wire.body import chunk, last_chunk
from sidecar.wire.head import Limits
from sidecar.wire.writer import request_head, response_head
from tests.property import wire_input
from tests.support.transcript import Message, Transcript, read_requests, read_responses

STRICTER_THAN_WE_ARE = "illegal chunk header"
LARGE = 1 << 20
ROOMY = Limits(headers=200)  # what is sent on may have more fields than a client is allowed


class Reading(NamedTuple):
    """What h11 makes of a message."""

    first: tuple
    payload: bytes
    trailers: set
    whole: bool
    behind: int


class TestRequests:
    @settings(max_examples=250, deadline=None)
    @given(wire_input.requests)
    def test_what_is_accepted_has_the_length_that_others_see(self, stream):
        read = read_requests([stream])
        start = 0
        for message in read.messages:
            if not message.whole and read.fault is not None:
                break
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGE)
            # h11 does not skip the empty lines that may come before a request (RFC 9112, section 2.2).
            other = read_by_h11(connection, stream[start:].lstrip(b"\r\n"))
            if other is None:
                break
            head = message.head
            assert other.first[0] == head.method
            assert other.first[1] in (head.target, b"http://" + head.host + head.target) or is_absolute(other)
            assert_same(message, other)
            start = len(stream) - message.behind

    @settings(max_examples=200, deadline=None)
    @given(wire_input.requests)
    def test_what_is_sent_on_is_read_as_what_came(self, stream):
        for message in read_requests([stream]).messages:
            if message.whole:
                head = message.head
                added = b"X-Added: 1\r\n"
                sent = request_head(head, head.host or b"test", added, forward_expect=head.expects_continue)
                again = only(read_requests([sent + body_of(message, chunked=head.length is None)], ROOMY))
                assert again.whole
                assert again.payload == message.payload
                assert again.trailers == message.trailers
                for name in ("method", "target", "path", "length", "upgrade", "expects_continue"):
                    assert getattr(again.head, name) == getattr(head, name)
                assert again.head.fields.lines == [*head.fields.lines, b"X-Added: 1"]
                assert again.head.persistent
                assert again.head.minor == 1


class TestResponses:
    @settings(max_examples=250, deadline=None)
    @given(wire_input.responses, wire_input.methods)
    @example(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", b"GET")
    @example(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"GET")
    @example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HEAD")
    def test_what_is_accepted_has_the_length_that_others_see(self, stream, method):
        read = read_responses([stream], method)
        final = next((it for it in read.messages if it.head.status >= 200), None)
        switched = any(it.head.status == 101 for it in read.messages)
        if final is None or switched or (not final.whole and read.fault is not None):
            return
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGE)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "test")]))
        connection.send(h11.EndOfMessage())
        other = read_by_h11(connection, stream)
        if other is not None:
            assert other.first == (final.head.status, final.head.reason)
            assert_same(final, other)

    @settings(max_examples=200, deadline=None)
    @given(wire_input.responses)
    def test_what_is_sent_on_is_read_as_what_came(self, stream):
        for message in read_responses([stream]).messages:
            head = message.head
            if message.whole and head.status >= 200:
                framing = b"Transfer-Encoding: chunked\r\n"
                if head.length is not None:
                    framing = b"Content-Length: %d\r\n" % head.length
                sent = response_head(head, framing, b"X-Added: 1\r\n")
                again = only(
                    read_responses([sent + body_of(message, chunked=head.length is None)], limits=ROOMY)
                )
                assert again.whole
                assert (again.head.status, again.head.reason) == (head.status, head.reason)
                assert again.head.fields.lines == [*head.fields.lines, b"X-Added: 1"]
                if head.status not in (204, 304):
                    assert again.payload == message.payload
                    assert again.trailers == message.trailers


def is_absolute(other: Reading) -> bool:
    return other.first[1].lower().startswith((b"http://", b"https://"))


def only(read: Transcript) -> Message:
    (message,) = read.messages
    return message


def body_of(message: Message, *, chunked: bool) -> bytes:
    """The body of ``message`` as it is sent on."""
    if not chunked:
        return message.payload
    return (chunk(message.payload) if message.payload else b"") + last_chunk(message.trailers)


def assert_same(message: Message, other: Reading) -> None:
    assert (message.whole, message.payload, message.behind) == (other.whole, other.payload, other.behind)
    # Fields that frame or route a message are dropped from trailers (RFC 9110, section 6.5.1).
    ours = {
        (name.lower(), value.strip(b" \t"))
        for name, _, value in (it.partition(b":") for it in message.trailers)
    }
    assert ours <= other.trailers


def read_by_h11(connection: h11.Connection, octets: bytes) -> Reading | None:
    """The first message, or ``None`` if h11 refuses its chunks for their form."""
    connection.receive_data(octets)
    connection.receive_data(b"")
    first, payload = (), b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            if "closed connection" in str(error):
                return Reading(first, payload, set(), whole=False, behind=0)
            if STRICTER_THAN_WE_ARE in str(error):
                return None
            raise
        if isinstance(event, h11.Request):
            first = (event.method, event.target)
        elif isinstance(event, h11.Response):
            first = (event.status_code, event.reason)
        elif isinstance(event, h11.Data):
            payload += event.data
        elif isinstance(event, h11.EndOfMessage):
            behind = len(connection.trailing_data[0])
            return Reading(first, payload, set(event.headers), whole=True, behind=behind)
