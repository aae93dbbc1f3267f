import pytest

from sidecar.wire.writer import request_head, response_head
from tests.unit.wire.messages import request, response


def written(*fields, first=b"POST /a?b HTTP/1.1", forward_expect=False):
    head = request(*fields, first=first)
    start, _, rest = request_head(head, b"up", b"X-Own: 1\r\n", forward_expect=forward_expect).partition(
        b"\r\n"
    )
    assert start == b"POST /a?b HTTP/1.1"
    assert rest.endswith(b"\r\n\r\n")
    return rest[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        ([], []),
        ([b"Content-Length: 0"], [b"Content-Length: 0"]),
        ([b"Content-Length: 0005"], [b"Content-Length: 5"]),
        ([b"Transfer-Encoding: Chunked"], [b"Transfer-Encoding: chunked"]),
    ],
)
def test_the_framing_is_written_anew(fields, framing):
    assert written(b"X-A: 1", *fields) == [b"Host: up", b"X-A: 1", *framing, b"X-Own: 1"]


@pytest.mark.parametrize(
    ("fields", "hop"),
    [
        (
            [b"Connection: Upgrade, TE", b"Upgrade: a, h2c", b"TE: trailers"],
            [b"Connection: Upgrade", b"Upgrade: a"],
        ),
        ([b"TE: trailers"], [b"Connection: TE", b"TE: trailers"]),
        ([b"Connection: close, X-A", b"X-A: 1", b"Keep-Alive: 5"], []),
    ],
)
def test_only_the_hop_by_hop_fields_that_we_mean_ourselves(fields, hop):
    assert written(*fields) == [b"Host: up", *hop, b"X-Own: 1"]


def test_an_expectation_is_passed_on_where_the_upstream_is_to_answer_it():
    assert b"Expect: 100-continue" in written(b"Expect: 100-continue", forward_expect=True)
    assert b"Expect: 100-continue" not in written(b"Expect: 100-continue")


def test_an_old_request_is_sent_on_as_a_new_one():
    assert written(first=b"POST /a?b HTTP/1.0") == [b"Host: up", b"X-Own: 1"]


@pytest.mark.parametrize("fields", [[], [b"X-A: 1", b"x-b: 2"]])
def test_a_response(fields):
    head = response(*fields, first=b"HTTP/1.0 404 Gone  away")
    expected = [b"HTTP/1.1 404 Gone  away", *fields, b"Content-Length: 5", b"X-Own: 1", b"", b""]
    assert response_head(head, b"Content-Length: 5\r\n", b"X-Own: 1\r\n") == b"\r\n".join(expected)
