"""Keyed requests and answers below, at and above 1 MiB, and what breaks off in between."""

from __future__ import annotations

import itertools
import threading

import pytest

from tests.support.pair import Pair
from tests.support.raw import error_of, is_replay, refusal
from tests.support.upstream import OK, Do, Reply, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("idempotency bodies")

MIB = 1 << 20
UNKNOWN = "IDEMPOTENCY_OUTCOME_UNKNOWN"
FRAMINGS = ("length", "chunked")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    routes = [
        {
            "name": "again",
            "match": {"prefix": "/again"},
            "upstream": "app",
            "idempotency": {"on_unknown": "reexecute"},
        },
        {"name": "default", "match": {"prefix": "/"}, "upstream": "app"},
    ]
    with Pair(tmp_path_factory.mktemp("bodies"), routes=routes, limits={"body_idle": "400ms"}) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


numbers = itertools.count()


@pytest.fixture
def key():
    return f"Idempotency-Key: body-{next(numbers)}"


def framed(body, framing, *, piece=100_000):
    """A body's field line and its octets on the wire."""
    if framing == "length":
        return f"Content-Length: {len(body)}", body
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    return "Transfer-Encoding: chunked", b"".join(
        b"%x\r\n%b\r\n" % (len(it), it) for it in pieces
    ) + b"0\r\n\r\n"


def head(target, key, *fields):
    return "\r\n".join([f"POST {target} HTTP/1.1", "Host: test", key, *fields, "", ""]).encode()


def post(pair, target, key, body, framing="length", *fields):
    line, octets = framed(body, framing)
    with pair.client() as client:
        client.send(head(target, key, line, *fields) + octets)
        return client.response("POST")


class TestUploads:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB])
    def test_of_every_size_are_executed_once(self, pair, key, size, framing):
        body = b"x" * (size - 1) + b"1"
        first, again = (post(pair, "/up", key, body, framing) for _ in range(2))
        other_framing = post(pair, "/up", key, body, next(it for it in FRAMINGS if it != framing))
        assert [is_replay(it) for it in (first, again, other_framing)] == [False, True, True]
        assert refusal(post(pair, "/up", key, body[:-1] + b"2", framing)) == (
            422,
            "IDEMPOTENCY_KEY_CONFLICT",
        )
        assert refusal(post(pair, "/up", key, body[:-1], framing)) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert refusal(post(pair, "/up?q", key, body, framing)) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert [request.body for request in pair.upstream.requests] == [body]

    def test_a_duplicate_while_the_first_runs(self, pair, key):
        go_on = threading.Event()
        body = b"x" * (2 * MIB)
        pair.upstream.reply = Reply([go_on, OK])
        with pair.client() as client:
            client.send(head("/run", key, f"Content-Length: {len(body)}") + body)
            pair.upstream.wait_request("/run")
            assert refusal(post(pair, "/run", key, body)) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            assert refusal(post(pair, "/run", key, b"small")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
            go_on.set()
            assert client.response("POST").status == 200
        assert is_replay(post(pair, "/run", key, body))
        assert len(pair.upstream.requests) == 1

    def test_an_answer_before_the_upload_has_ended_is_kept(self, pair, key):
        pair.upstream.reply = Reply([answer(b"too much", status="413 X"), Do.READ_BODY], early=True)
        with pair.client() as client:
            client.send(head("/early", key, f"Content-Length: {5 * MIB}") + b"x" * (2 * MIB))
            first = client.response("POST")
        assert (first.status, first.body) == (413, b"too much")
        assert "x-idempotency-status" not in first
        again = post(pair, "/early", key, b"x" * (5 * MIB))
        assert (again.body, is_replay(again)) == (b"too much", True)
        assert len(pair.upstream.requests) == 1

    def test_or_frees_the_key_where_it_is_not_kept(self, pair, key):
        pair.upstream.reply = Reply([answer(b"who?", status="401 X"), Do.READ_BODY], early=True)
        for _ in range(2):
            with pair.client() as client:
                client.send(head("/early", key, f"Content-Length: {5 * MIB}") + b"x" * (2 * MIB))
                assert client.response("POST").status == 401
        assert len(pair.upstream.requests) == 2


def half_close(client):
    client.finish_sending()


def reset(client):
    client.reset()


def wait(_client):
    """Nothing more comes: ``body_idle`` runs out."""


BREAKS = [half_close, reset, wait]


class TestUploadsThatBreakOff:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("break_off", BREAKS)
    def test_below_1_mib_they_are_never_executed(self, pair, key, break_off, framing):
        body = b"x" * 1000
        line, octets = framed(body, framing)
        with pair.client() as client:
            client.send(head("/off", key, line) + octets[:-10])
            break_off(client)
            if break_off is not reset:
                assert client.response("POST").status == {half_close: 400, wait: 408}[break_off]
        first = post(pair, "/off", key, b"something else")
        assert (first.status, is_replay(first)) == (200, False)
        assert [request.body for request in pair.upstream.requests] == [b"something else"]

    @pytest.mark.parametrize("break_off", BREAKS)
    def test_nor_is_a_larger_one_before_its_first_octet(self, pair, key, break_off):
        with pair.client() as client:
            client.send(head("/off", key, f"Content-Length: {2 * MIB}", "Expect: 100-continue"))
            assert client.any_head("POST").status == 100
            break_off(client)
            if break_off is not reset:
                assert client.response("POST").status == {half_close: 400, wait: 408}[break_off]
        assert post(pair, "/off", key, b"something else").status == 200
        assert len(pair.upstream.requests) == 1

    @pytest.mark.parametrize("octets", [1, 1000])
    def test_which_is_passed_on_at_once(self, pair, key, octets):
        body = b"x" * (2 * MIB)
        with pair.client() as client:
            client.send(head("/slow", key, f"Content-Length: {len(body)}") + body[:octets])
            pair.upstream.wait_request("/slow")
            assert refusal(post(pair, "/slow", key, body)) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            client.send(body[octets:])
            assert client.response("POST").status == 200

    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("break_off", BREAKS)
    def test_above_their_outcome_is_unknown(self, pair, key, break_off, framing):
        body = b"x" * (2 * MIB)
        line, octets = framed(body, framing)
        with pair.client() as client:
            client.send(head("/off", key, line) + octets[:-10])
            pair.upstream.wait_request("/off")
            break_off(client)
            if break_off is not reset:
                assert refusal(client.response("POST")) == (504, UNKNOWN)
        eventually(lambda: refusal(post(pair, "/off", key, body)) == (409, UNKNOWN), "it has been noticed")
        assert refusal(post(pair, "/off", key, b"small")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert len(pair.upstream.requests) == 1

    def test_or_they_execute_again_where_the_route_says_so(self, pair, key):
        body = b"x" * (2 * MIB)
        with pair.client() as client:
            client.send(head("/again", key, f"Content-Length: {len(body)}") + body[:-1])
            pair.upstream.wait_request("/again")
            client.reset()
        eventually(lambda: post(pair, "/again", key, body).status == 200, "it is executed")
        assert pair.upstream.requests[-1].body == body


class TestExpect:
    """With a key it is the sidecar that says 100: it needs the body before the upstream sees anything."""

    @pytest.mark.parametrize("size", [10, 2 * MIB])
    def test_an_acceptable_key_is_told_to_continue(self, pair, key, size):
        body = b"x" * size
        for replayed in (False, True):
            with pair.client() as client:
                client.send(head("/expect", key, f"Content-Length: {size}", "Expect: 100-continue"))
                assert client.any_head("POST").status == 100
                client.send(body)
                assert is_replay(client.response("POST")) is replayed
        (request,) = pair.upstream.requests
        assert "expect" not in request
        assert request.body == body

    def test_a_bad_one_is_refused_instead(self, pair):
        with pair.client() as client:
            client.send(
                head("/expect", "Idempotency-Key: two words", "Content-Length: 5", "Expect: 100-continue")
            )
            response = client.response("POST")
        assert (refusal(response), response.interim) == ((400, "IDEMPOTENCY_KEY_INVALID"), [])
        assert pair.upstream.requests == []


class TestAnswers:
    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("size", [MIB - 1, MIB])
    def test_up_to_1_mib_are_kept(self, pair, key, size, framing):
        pair.upstream.reply = Reply([self.answer(size, framing)])
        first, again = (post(pair, "/down", key, b"") for _ in range(2))
        assert first.body == again.body == b"x" * size
        assert is_replay(again)

    @pytest.mark.parametrize("framing", FRAMINGS)
    @pytest.mark.parametrize("size", [MIB + 1, 3 * MIB])
    def test_larger_ones_pass_and_cannot_be_replayed(self, pair, key, size, framing):
        pair.upstream.reply = Reply([self.answer(size, framing)])
        before = pair.sidecar.metric("idempotency_requests_total", result="not_replayable")
        assert post(pair, "/down", key, b"").body == b"x" * size
        again = post(pair, "/down", key, b"")
        assert refusal(again) == (409, "RESPONSE_NOT_REPLAYABLE")
        assert error_of(again)["original_status"] == 202
        assert len(pair.upstream.requests) == 1
        assert pair.sidecar.metric("idempotency_requests_total", result="not_replayable") == before + 1

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_a_large_one_that_is_not_kept_frees_the_key(self, pair, key, framing):
        pair.upstream.reply = Reply([self.answer(2 * MIB, framing, status="503 X")])
        for _ in range(2):
            assert post(pair, "/down", key, b"").body == b"x" * (2 * MIB)
        assert len(pair.upstream.requests) == 2

    @staticmethod
    def answer(size, framing, status="202 Accepted"):
        line, octets = framed(b"x" * size, framing)
        return f"HTTP/1.1 {status}\r\n{line}\r\n\r\n".encode() + octets

    def test_the_record_is_there_before_the_last_piece(self, pair, key):
        go_on = threading.Event()
        whole = self.answer(2 * MIB, "length")
        pair.upstream.reply = Reply([whole[:-1], go_on, whole[-1:]])
        with pair.client() as client:
            client.send(head("/last", key, "Content-Length: 0"))
            response = client.head("POST")
            size = int(response["content-length"])
            for octets in client.reader.pieces(MIB):
                size -= len(octets)
            assert refusal(post(pair, "/last", key, b"")) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
            go_on.set()
            for octets in client.reader.pieces(size):
                size -= len(octets)
            assert size == 0
            assert refusal(post(pair, "/last", key, b"")) == (409, "RESPONSE_NOT_REPLAYABLE")
