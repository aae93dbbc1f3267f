"""How messages pass: keep-alive, pipelining, answers without body, 100-continue, chunks, HTTP/1.0."""

from __future__ import annotations

import select
import threading

import httpx
import pytest

from tests.support.pair import Pair
from tests.support.upstream import OK, Do, Reply, answer, chunked_answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("messages")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    limits = {"keep_alive": "300ms", "header_timeout": "5s"}
    upstreams = {"short": {"pool": {"idle": "200ms"}}, "none": {"pool": {"idle": "0s"}}}
    with Pair(tmp_path_factory.mktemp("messages"), upstreams, limits=limits) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


def silent(client, seconds=0.1):
    """Whether nothing comes from the sidecar for a moment."""
    return not select.select([client.socket], [], [], seconds)[0]


class TestKeepAlive:
    def test_httpx_uses_one_connection_on_either_side(self, pair):
        with httpx.Client(base_url=pair.sidecar.url, trust_env=False) as client:
            answers = [client.post(f"/one/{number}", content=b"x" * number) for number in range(30)]
        assert {it.status_code for it in answers} == {200}
        on = {pair.upstream.connection_of(it).number for it in pair.upstream.requests}
        assert len(on) == 1

    def test_an_idle_client_is_let_go_without_a_word(self, pair):
        with pair.client() as client:
            assert client.request("GET", "/idle").status == 200
            assert client.end() == "closed"

    def test_a_client_that_never_says_anything_is_let_go(self, pair):
        with pair.client() as client:
            assert client.end() == "closed"

    def test_an_idle_upstream_connection_is_closed_in_time(self, pair):
        assert pair.request("GET", "/short/a").status == 200
        connection = pair.upstream.connection_of(pair.upstream.on("/short/a")[0])
        connection.wait_end()
        assert pair.request("GET", "/short/b").status == 200
        assert pair.upstream.connection_of(pair.upstream.on("/short/b")[0]) is not connection

    def test_a_pool_that_keeps_nothing_opens_a_connection_each_time(self, pair):
        with pair.client() as client:
            for number in range(3):
                assert client.request("GET", f"/none/{number}").status == 200
        on = {pair.upstream.connection_of(it).number for it in pair.upstream.requests}
        assert len(on) == 3

    def test_the_answer_to_a_closing_request_says_so(self, pair):
        with pair.client() as client:
            response = client.request("GET", "/", "Connection: close")
            assert response["connection"] == b"close"
            assert client.end() == "closed"
        assert "connection" not in pair.upstream.requests[-1]

    def test_an_upstream_that_closes_does_not_close_the_client(self, pair):
        pair.upstream.reply = Reply([answer(b"ok", "Connection: close"), Do.CLOSE])
        with pair.client() as client:
            for _ in range(3):
                response = client.request("GET", "/")
                assert response.status == 200
                assert "connection" not in response


class TestPipelining:
    def test_answers_keep_the_order_of_the_requests(self, pair):
        """The first one is the slowest, and each answer is framed in another way."""
        go_on = threading.Event()
        pair.upstream.replies = {
            "/slow": Reply([go_on, answer(b"slow")]),
            "/chunked": Reply([chunked_answer(b"chu", b"nked")]),
            "/none": Reply([answer(b"", status="204 No Content").replace(b"Content-Length: 0\r\n", b"")]),
            "/close": Reply([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nclose", Do.CLOSE]),
        }
        paths = ["slow", "chunked", "none", "close", "plain"] * 5
        with pair.client() as client:
            client.send(b"".join(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % it.encode() for it in paths))
            pair.upstream.wait_request("/slow")
            assert silent(client)
            go_on.set()
            bodies = [client.response().body for _ in paths]
        assert bodies == [b"slow", b"chunked", b"", b"close", b"ok"] * 5

    def test_more_than_is_buffered_waits_at_the_client(self, pair):
        """Half a megabyte of requests behind one that takes its time."""
        go_on = threading.Event()
        pair.upstream.replies["/slow"] = Reply([go_on, OK])
        count = 60
        padding = b"X-Padding: %b\r\n" % (b"p" * 8000)
        requests = [b"GET /many HTTP/1.1\r\nHost: test\r\n%b\r\n" % padding] * count
        with pair.client() as client:
            sender = threading.Thread(
                target=client.send, args=(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n", *requests)
            )
            sender.start()
            pair.upstream.wait_request("/slow")
            go_on.set()
            assert [client.response().status for _ in range(count + 1)] == [200] * (count + 1)
            sender.join()
        assert len(pair.upstream.on("/many")) == count

    def test_a_body_between_requests_belongs_to_its_own(self, pair):
        body = b"GET /inner HTTP/1.1\r\nHost: test\r\n\r\n"
        request = b"POST /outer HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with pair.client() as client:
            client.send((request + b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n") * 10)
            assert [client.response().status for _ in range(20)] == [200] * 20
        assert [it.body for it in pair.upstream.on("/outer")] == [body] * 10
        assert len(pair.upstream.on("/next")) == 10
        assert pair.upstream.on("/inner") == []


class TestBodilessAnswers:
    @pytest.mark.parametrize(
        ("script", "length"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", [b"12345"]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", []),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", [b"9"]),
        ],
    )
    def test_head(self, pair, script, length):
        pair.upstream.replies["/head"] = Reply([script])
        with pair.client() as client:
            response = client.request("HEAD", "/head")
            assert response.values("content-length") == length
            assert client.request("GET", "/next").body == b"ok"
        connections = [pair.upstream.connection_of(it) for it in pair.upstream.requests]
        assert connections[0] is connections[1]

    def test_heads_of_errors_have_no_body_either(self, pair):
        pair.upstream.replies["/head"] = Reply([Do.CLOSE])
        with pair.client() as client:
            response = client.request("HEAD", "/head")
            assert (response.status, response["x-sidecar-reason"]) == (502, b"upstream_unreachable")
            assert int(response["content-length"]) > 0
            assert client.request("GET", "/next").body == b"ok"

    @pytest.mark.parametrize(
        "script",
        [
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
            b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 500\r\n\r\n',
        ],
    )
    def test_204_and_304(self, pair, script):
        pair.upstream.replies["/bare"] = Reply([script])
        with pair.client() as client:
            response = client.request("GET", "/bare")
            assert (response.status, response.body) == (int(script[9:12]), b"")
            assert response.values("etag") == ([b'"a"'] if b"ETag" in script else [])
            assert client.request("GET", "/next").body == b"ok"
        connections = [pair.upstream.connection_of(it) for it in pair.upstream.requests]
        assert connections[0] is connections[1]


class TestExpectContinue:
    HEAD = b"POST /upload HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def test_it_is_the_upstream_that_says_continue(self, pair):
        go_on = threading.Event()
        pair.upstream.replies["/upload"] = Reply([go_on, CONTINUE, Do.READ_BODY, OK], early=True)
        with pair.client() as client:
            client.send(self.HEAD)
            assert pair.upstream.wait_request("/upload")["expect"] == b"100-continue"
            assert silent(client)
            go_on.set()
            assert client.any_head("POST").status == 100
            client.send(b"hello")
            assert client.response("POST").status == 200
        assert pair.upstream.on("/upload")[0].body == b"hello"

    def test_a_refusal_arrives_instead_and_no_body_is_needed(self, pair):
        pair.upstream.replies["/upload"] = Reply([answer(b"no", status="417 Expectation Failed")], early=True)
        with pair.client() as client:
            client.send(self.HEAD)
            response = client.response("POST")
            assert (response.status, response.interim) == (417, [])

    def test_a_client_that_does_not_wait_is_served_as_well(self, pair):
        pair.upstream.replies["/upload"] = Reply([CONTINUE, Do.READ_BODY, OK], early=True)
        with pair.client() as client:
            client.send(self.HEAD + b"hello")
            response = client.response("POST")
            assert response.status == 200
            assert [it.status for it in response.interim] == [100]
            assert client.request("GET", "/next").status == 200

    def test_http_1_0_does_not_know_it(self, pair):
        with pair.client() as client:
            client.send(self.HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"hello")
            assert client.response("POST").status == 200
        assert "expect" not in pair.upstream.on("/upload")[0]


class TestChunks:
    def test_an_upload_passes_piece_by_piece(self, pair):
        """What has come is passed on before the next piece exists."""
        with pair.client() as client:
            client.send(b"POST /pieces HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection = pair.upstream.connection_of(pair.upstream.wait_request("/pieces"))
            for number in range(5):
                client.send(b"7\r\npiece-%d\r\n" % number)
                eventually(lambda wanted=b"piece-%d" % number: wanted in connection.raw, "the next piece")
            client.send(b"0\r\n\r\n")
            assert client.response("POST").status == 200
        request = pair.upstream.on("/pieces")[0]
        assert (request.framing, request.body) == ("chunked", b"piece-0piece-1piece-2piece-3piece-4")

    def test_an_answer_passes_piece_by_piece(self, pair):
        events = [threading.Event() for _ in range(3)]
        script = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
        for event in events:
            script += [b"5\r\npiece\r\n", event]
        pair.upstream.reply = Reply([*script, b"0\r\n\r\n"])
        with pair.client() as client:
            client.send(b"GET /pieces HTTP/1.1\r\nHost: test\r\n\r\n")
            assert client.head().framing == "chunked"
            for event in events:
                assert client.reader.line() == b"5"
                assert b"".join(client.reader.pieces(7)) == b"piece\r\n"
                event.set()
            assert [client.reader.line(), client.reader.line()] == [b"0", b""]

    def test_trailers_of_an_upload(self, pair):
        with pair.client() as client:
            client.send(
                b"POST /trailers HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum, X-Note\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
                b"5;name=value\r\nhello\r\n0\r\nX-Sum: 1\r\nx-note: two words\r\n\r\n"
            )
            assert client.response("POST").status == 200
        request = pair.upstream.on("/trailers")[0]
        assert (request.body, request["trailer"]) == (b"hello", b"X-Sum, X-Note")
        assert request.trailers == [(b"x-sum", b"1"), (b"x-note", b"two words")]

    def test_trailers_of_an_answer(self, pair):
        pair.upstream.reply = Reply([chunked_answer(b"hello", trailers=("X-Sum: 1", "Server-Timing: a"))])
        with pair.client() as client:
            response = client.request("GET", "/", "TE: trailers")
            assert (response.body, response.trailers) == (
                b"hello",
                [(b"x-sum", b"1"), (b"server-timing", b"a")],
            )
            assert client.request("GET", "/next").status == 200
        assert pair.upstream.requests[0]["te"] == b"trailers"

    @pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization"])
    def test_trailers_that_would_change_the_message_are_dropped(self, pair, name):
        with pair.client() as client:
            client.send(
                b"POST /trailers HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\n%b: 5\r\nX-Sum: 1\r\n\r\n" % name.encode()
            )
            assert client.response("POST").status == 200
        assert pair.upstream.on("/trailers")[0].trailers == [(b"x-sum", b"1")]

    def test_an_httpx_generator(self, pair):
        with httpx.Client(base_url=pair.sidecar.url, trust_env=False) as client:
            assert client.put("/generated", content=(b"%d," % n for n in range(1000))).status_code == 200
        assert pair.upstream.on("/generated")[0].body == b"".join(b"%d," % n for n in range(1000))


class TestHttp10:
    def test_its_connection_ends_with_the_answer(self, pair):
        with pair.client() as client:
            client.send(b"GET /old HTTP/1.0\r\n\r\n")
            response = client.response()
            assert (response.status, response.body) == (200, b"ok")
            assert client.end() == "closed"
        assert pair.upstream.on("/old")[0].start == b"GET /old HTTP/1.1"
        assert pair.upstream.on("/old")[0]["host"] == f"127.0.0.1:{pair.upstream.port}".encode()

    def test_it_may_ask_to_keep_it(self, pair):
        with pair.client() as client:
            for _ in range(3):
                client.send(b"GET /old HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n")
                response = client.response()
                assert (response.status, response["connection"]) == (200, b"keep-alive")

    def test_chunks_become_a_body_up_to_the_end(self, pair):
        pair.upstream.reply = Reply([chunked_answer(b"one ", b"two ", b"three", trailers=("X-Sum: 1",))])
        with pair.client() as client:
            client.send(b"GET /old HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n")
            response = client.response()
            assert (response.framing, response.body) == ("close", b"one two three")
            assert response["connection"] == b"close"

    def test_it_gets_no_interim_answers(self, pair):
        pair.upstream.reply = Reply([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK])
        with pair.client() as client:
            client.send(b"GET /old HTTP/1.0\r\nHost: test\r\n\r\n")
            assert client.response().interim == []


def test_early_hints_arrive_before_the_answer_exists(pair):
    go_on = threading.Event()
    pair.upstream.reply = Reply([b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", go_on, OK])
    with pair.client() as client:
        client.send(b"GET /hints HTTP/1.1\r\nHost: test\r\n\r\n")
        hints = client.any_head()
        assert (hints.status, hints["link"]) == (103, b"</a.css>")
        go_on.set()
        assert client.response().status == 200
