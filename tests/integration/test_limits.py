"""What a client may send and how slowly: 408, 413, 414 and 431, each with one log line that says why."""

from __future__ import annotations

import threading

import pytest

from tests.support.messages import Broken, Ended
from tests.support.pair import Pair
from tests.support.raw import error_of
from tests.support.upstream import OK, Do, Reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("limits")

LIMITS = {
    "header_bytes": "4KiB",
    "headers": 20,
    "request_line": "1KiB",
    "body": "1000B",
    "header_timeout": "300ms",
    "body_idle": "300ms",
    "keep_alive": "5s",
    "connections": 40,
}
HEAD = b"POST /upload HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Pair(tmp_path_factory.mktemp("limits"), limits=LIMITS) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


def assert_refused(pair, response, code, status):
    """The answer has its form, and exactly one line of the log is about it and says why."""
    error = error_of(response)
    assert (response.status, error["code"]) == (status, code)
    assert response["connection"] == b"close"
    line = pair.sidecar.access_line(correlation_id=error["correlation_id"])
    assert (line["status"], line["level"]) == (status, "info")
    assert line["reason"] == code.lower()
    assert line["cause"]
    assert len(pair.sidecar.access_lines(correlation_id=error["correlation_id"])) == 1
    assert pair.request("GET", "/others-do-not-notice").status == 200


@pytest.mark.parametrize(
    ("request_bytes", "code", "status"),
    [
        (b"GET /" + b"x" * 1011 + b" HTTP/1.1\r\nHost: test\r\n\r\n", "URI_TOO_LONG", 414),
        (b"GET /" + b"x" * 5000, "URI_TOO_LONG", 414),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 4096 + b"\r\n\r\n", "HEADERS_TOO_LARGE", 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 9000, "HEADERS_TOO_LARGE", 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 20 + b"\r\n", "HEADERS_TOO_LARGE", 431),
        (HEAD + b"Content-Length: 1001\r\n\r\n", "BODY_TOO_LARGE", 413),
        (HEAD + b"Content-Length: 99999999999999999\r\n\r\n", "BODY_TOO_LARGE", 413),
    ],
    ids=["line", "endless line", "head", "endless head", "many fields", "body", "huge body"],
)
def test_too_much_is_refused_before_anything_is_forwarded(pair, request_bytes, code, status):
    with pair.client() as client:
        client.send(request_bytes)
        response = client.response("POST")
        assert client.end() == "closed"
    assert [it for it in pair.upstream.requests if it.path != b"/others-do-not-notice"] == []
    assert_refused(pair, response, code, status)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 1010 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 19 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 4000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n",
    ],
    ids=["line", "fields", "head", "body", "chunks"],
)
def test_the_limit_itself_is_allowed(pair, request_bytes):
    if b"x" * 4000 in request_bytes:
        request_bytes = request_bytes.replace(b"x" * 4000, b"x" * (4096 - 35))
        assert len(request_bytes) == 4096
    if request_bytes.startswith(b"GET /xxx"):
        assert request_bytes.index(b"\r\n") == 1024
    with pair.client() as client:
        client.send(request_bytes)
        assert client.response("POST").status == 200


def test_a_chunked_body_is_cut_off_when_it_gets_too_large(pair):
    """What was forwarded must not pass for the whole."""
    whole = []

    def read(connection, request):
        connection.read_body(request)
        whole.append(request.body)
        connection.send(OK)

    pair.upstream.replies["/upload"] = read
    with pair.client() as client:
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + b"x" * 500 + b"\r\n")
        connection = pair.upstream.connection_of(pair.upstream.wait_request("/upload"))
        client.send(b"1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n")
        assert_refused(pair, client.response("POST"), "BODY_TOO_LARGE", 413)
    connection.wait_end()
    assert whole == []


def test_a_chunked_body_over_the_limit_in_one_piece(pair):
    with pair.client() as client:
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
        assert_refused(pair, client.response("POST"), "BODY_TOO_LARGE", 413)


def test_no_100_for_a_body_that_is_too_large(pair):
    with pair.client() as client:
        client.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
        response = client.response("POST")
        assert (response.status, response.interim) == (413, [])


class TestSlowClients:
    def test_a_head_that_does_not_end(self, pair):
        with pair.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: te")
            response = client.response()
            assert client.end() == "closed"
        assert_refused(pair, response, "REQUEST_TIMEOUT", 408)

    def test_drops_of_a_head_do_not_buy_more_time(self, pair):
        """Slow loris: the time runs from the first octet to the last."""
        stop = threading.Event()
        with pair.client() as client:

            def drip():
                for octet in b"GET / HTTP/1.1\r\nX: " + b"x" * 1000:
                    if stop.wait(0.05):
                        return
                    client.send(bytes([octet]))

            thread = threading.Thread(target=drip)
            thread.start()
            response = client.response()
            stop.set()
            thread.join()
        assert_refused(pair, response, "REQUEST_TIMEOUT", 408)

    @pytest.mark.parametrize("key", [b"", b"Idempotency-Key: slow\r\n"], ids=["plain", "keyed"])
    @pytest.mark.parametrize(
        "body",
        [b"Content-Length: 10\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
        ids=["length", "chunked"],
    )
    def test_a_body_that_stops(self, pair, key, body):
        with pair.client() as client:
            client.send(HEAD + key + body)
            response = client.response("POST")
            assert client.end() == "closed"
        assert_refused(pair, response, "REQUEST_TIMEOUT", 408)
        whole = [it for it in pair.upstream.on("/upload") if it.body]
        assert whole == []
        if key:
            assert pair.upstream.on("/upload") == []

    def test_a_slow_body_that_goes_on_is_fine(self, pair):
        with pair.client() as client:
            client.send(HEAD + b"Content-Length: 6\r\n\r\n")
            for octet in b"slowly":
                threading.Event().wait(0.1)
                client.send(bytes([octet]))
            assert client.response("POST").status == 200
        assert pair.upstream.on("/upload")[0].body == b"slowly"

    def test_a_slow_upstream_is_not_the_clients_fault(self, pair):
        """It has sent everything it can: the sidecar waits for the upstream, not for the body."""
        go_on = threading.Event()
        pair.upstream.replies["/upload"] = Reply([go_on, OK])
        with pair.client() as client:
            client.send(HEAD + b"Content-Length: 5\r\n\r\nhello")
            pair.upstream.wait_request("/upload")
            threading.Event().wait(0.5)
            go_on.set()
            assert client.response("POST").status == 200


def test_further_connections_wait_or_are_let_go_and_others_go_on(pair):
    clients = [pair.client() for _ in range(40)]
    try:
        for client in clients:
            assert client.request("GET", "/").status == 200
        late = pair.client(timeout=1)
        late.send(b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n")
        try:
            status = late.response().status
        except (Ended, Broken, TimeoutError):
            status = None
        assert status is None
        assert clients[0].request("GET", "/").status == 200
    finally:
        for client in clients:
            client.close()
    late.close()

    def served():
        with pair.client() as client:
            try:
                return client.request("GET", "/").status == 200
            except (Ended, Broken):
                return False

    eventually(served, "there is room again")


def test_an_answer_before_the_body_is_read_is_delivered(pair):
    """RFC 9112, section 9.6: the client still sends, and must not lose the answer to a reset."""
    pair.upstream.replies["/upload"] = Reply(
        [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", Do.CLOSE], early=True
    )
    with pair.client() as client:
        client.send(HEAD + b"Content-Length: 1000\r\n\r\n" + b"x" * 10)
        response = client.response("POST")
        assert (response.status, response.body, response["connection"]) == (403, b"no", b"close")
