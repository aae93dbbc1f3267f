"""What all requests without a body share; `test_exchange.py` sees bodies on their way."""

from __future__ import annotations

import pytest

from sidecar.exchange import Exchange
from sidecar.request_body import NO_BODY, RequestBody
from tests.support.data_path import DataPath
from tests.unit.wire.messages import lines, request

GET = lines(b"GET / HTTP/1.1", b"Host: test")
OK = lines(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"


@pytest.fixture
def path(loop):
    return DataPath(loop)


def exchange(loop, path, head):
    return Exchange(path.client()._protocol, head, loop, path.gateway.deadlines)


def test_requests_without_one_share_it(loop, path):
    assert exchange(loop, path, request()).body is NO_BODY


@pytest.mark.parametrize(
    "fields", [(b"Content-Length: 5",), (b"Transfer-Encoding: chunked",), (b"Expect: 100-continue",)]
)
def test_others_have_their_own(loop, path, fields):
    head = request(*fields)
    body = exchange(loop, path, head).body
    assert body is not NO_BODY
    assert body.done == (head.length == 0)
    assert body.forwards_expect == head.expects_continue


def test_an_exchange_that_is_over_lets_go_of_its_own(loop, path):
    over = exchange(loop, path, request(b"Content-Length: 5"))
    over.end()
    assert over.body is NO_BODY


def test_what_is_shared_never_changes(loop, path):
    before = {name: getattr(NO_BODY, name, None) for name in RequestBody.__slots__}
    client = path.client()
    client.send(GET)
    path.host.vanish()
    loop.advance(1)
    path.host.stop_taking(room=0)
    path.host.take_again()
    path.host.send(OK)
    assert client.take().endswith(b"ok")
    assert loop.run(NO_BODY.read(100))
    loop.run(NO_BODY.drain())
    assert (NO_BODY.kept, NO_BODY.replayable) == (b"", True)
    assert {name: getattr(NO_BODY, name, None) for name in RequestBody.__slots__} == before


def test_it_describes_itself(loop, path):
    body = exchange(loop, path, request(b"Content-Length: 5")).body
    assert repr(body) == "<RequestBody kept=0 of 0 done=False>"
