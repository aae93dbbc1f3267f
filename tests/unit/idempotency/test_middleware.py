"""IdempotencyMiddleware around Starlette applications, and around applications that do what none should."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from sidecar import CorrelationMiddleware, IdempotencyMiddleware, MemoryIdempotencyStore
from sidecar.clock import SYSTEM_CLOCK
from sidecar.idempotency.core import BUFFERED_BODY, KEPT_BODY
from tests.unit.idempotency.stores import FlakyStore

KEY = {"Idempotency-Key": "k-1"}
LARGE = KEPT_BODY + 1


class Shop:
    """An application that counts what it does."""

    def __init__(self, **options):
        self.executions = 0
        self.results = []
        self.go_on = threading.Event()
        routes = [
            Route("/orders", self.order, methods=["POST", "PUT", "PATCH", "DELETE"]),
            Route("/slow", self.slow, methods=["POST"]),
            Route("/status/{status:int}", self.answer_with, methods=["POST"]),
            Route("/raise", self.raise_, methods=["POST"]),
            Route("/raise-late", self.raise_late, methods=["POST"]),
            Route("/stream", self.stream, methods=["POST"]),
            Route("/events", self.events, methods=["POST"]),
            Route("/file", self.file, methods=["POST"]),
            Route("/background", self.background, methods=["POST"]),
            Route("/deaf", self.deaf, methods=["POST"]),
            WebSocketRoute("/ws", self.talk),
        ]
        self.app = Starlette(routes=routes)
        self.store = options.pop("store", None) or MemoryIdempotencyStore()
        self.app.add_middleware(
            IdempotencyMiddleware, store=self.store, on_result=self.results.append, **options
        )
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def post(self, path="/orders", content=b"", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=content, headers=KEY | named)

    async def order(self, request):
        body = await request.body()
        self.executions += 1
        headers = {"X-Own": "1", "Set-Cookie": "a=1", "X-Idempotent-Replayed": "true"}
        return Response(b"%d:%d" % (self.executions, len(body)), status_code=201, headers=headers)

    async def slow(self, _request):
        self.executions += 1
        await asyncio.to_thread(self.go_on.wait, 10)
        return PlainTextResponse("slow")

    async def answer_with(self, request):
        self.executions += 1
        return Response(status_code=request.path_params["status"])

    async def raise_(self, _request):
        self.executions += 1
        raise RuntimeError("the application has failed")

    async def raise_late(self, _request):
        self.executions += 1

        async def content():
            for _ in range(3):
                yield b"x" * LARGE
            raise RuntimeError("the application has failed")

        return StreamingResponse(content())

    async def stream(self, request):
        self.executions += 1
        size = int(request.query_params["size"])

        async def content():
            for start in range(0, size, 1000):
                yield b"x" * min(1000, size - start)

        return StreamingResponse(content())

    async def events(self, _request):
        self.executions += 1

        async def content():
            for number in range(3):
                yield f"data: {number}\n\n"

        return StreamingResponse(content(), media_type="text/event-stream")

    async def file(self, _request):
        self.executions += 1
        return FileResponse(__file__)

    async def background(self, _request):
        async def later():
            self.executions += 1

        return PlainTextResponse("done", background=BackgroundTask(later))

    async def deaf(self, _request):
        """Answers without reading its body."""
        self.executions += 1
        return PlainTextResponse("deaf")

    async def talk(self, websocket):
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()


@pytest.fixture
def shop():
    return Shop()


def is_replay(response):
    return response.headers.get("x-idempotent-replayed") == "true"


def code(response):
    error = response.json()["error"]
    assert response.headers["x-sidecar-reason"] == error["code"].lower()
    assert response.headers["x-correlation-id"] == error["correlation_id"]
    return response.status_code, error["code"]


def test_a_retry_gets_the_first_answer(shop):
    first, again = shop.post(), shop.post(X_Correlation_ID="second")
    assert (first.status_code, first.text, is_replay(first)) == (201, "1:0", False)
    assert (again.status_code, again.text, is_replay(again)) == (201, "1:0", True)
    assert again.headers["x-own"] == "1"
    assert "set-cookie" in first.headers
    assert "set-cookie" not in again.headers
    assert again.headers["x-correlation-id"] == "second"
    assert again.headers["x-idempotent-original-correlation-id"]
    assert shop.results == ["executed", "replayed"]


def test_without_a_key_and_for_other_methods_it_does_nothing(shop):
    assert [shop.client.post("/orders").text for _ in range(2)] == ["1:0", "2:0"]
    assert [shop.client.delete("/orders", headers=KEY).text for _ in range(2)] == ["3:0", "4:0"]
    with shop.client.websocket_connect("/ws", headers=KEY) as socket:
        assert socket.receive_text() == "hello"
    assert shop.results == []


def test_another_request_under_the_same_key(shop):
    shop.post(content=b"a")
    assert code(shop.post(content=b"b")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
    assert code(shop.post("/orders?x=1", content=b"a")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
    assert is_replay(shop.post(content=b"a"))
    problem = shop.post(content=b"b", Accept="application/problem+json")
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "IDEMPOTENCY_KEY_CONFLICT"


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, '"unclosed'])
def test_a_bad_key_executes_nothing(shop, key):
    response = shop.client.post("/orders", headers={"Idempotency-Key": key})
    assert code(response) == (400, "IDEMPOTENCY_KEY_INVALID")
    assert (shop.executions, shop.results) == (0, ["invalid"])


def test_a_key_may_be_required():
    shop = Shop(required=True, header_name="X-Key")
    assert code(shop.client.post("/orders")) == (400, "IDEMPOTENCY_KEY_MISSING")
    assert shop.client.post("/orders", headers={"X-Key": "a"}).text == "1:0"
    assert shop.results == ["missing", "executed"]


def test_two_callers_are_apart(shop):
    answers = [shop.post(Authorization=name).text for name in ("alice", "bob", "alice")]
    assert answers == ["1:0", "2:0", "1:0"]


def test_while_the_first_runs(shop):
    with shop.client, ThreadPoolExecutor() as pool:
        first = pool.submit(shop.post, "/slow")
        while not shop.executions:
            pass
        busy = shop.post("/slow")
        assert code(busy) == (409, "DUPLICATE_REQUEST_IN_PROGRESS")
        assert busy.headers["retry-after"] == "1"
        assert code(shop.post("/slow", content=b"other")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        shop.go_on.set()
        assert first.result().text == "slow"
        assert is_replay(shop.post("/slow"))
    assert shop.executions == 1


def test_a_duplicate_may_wait():
    shop = Shop(on_duplicate="wait")
    with shop.client, ThreadPoolExecutor() as pool:
        first = pool.submit(shop.post, "/slow")
        while not shop.executions:
            pass
        second = pool.submit(shop.post, "/slow")
        shop.go_on.set()
        assert {first.result().text, second.result().text} == {"slow"}
    assert shop.executions == 1


@pytest.mark.parametrize(
    ("status", "kept"), [(200, True), (204, True), (404, True), (500, True), (503, False)]
)
def test_what_is_kept(shop, status, kept):
    responses = [shop.post(f"/status/{status}") for _ in range(2)]
    assert [it.status_code for it in responses] == [status, status]
    assert is_replay(responses[1]) is kept
    assert shop.executions == (1 if kept else 2)


class TestUnknownOutcomes:
    def test_an_application_that_raises(self, shop):
        assert code(shop.post("/raise")) == (504, "IDEMPOTENCY_OUTCOME_UNKNOWN")
        assert code(shop.post("/raise")) == (409, "IDEMPOTENCY_OUTCOME_UNKNOWN")
        assert code(shop.post("/raise", content=b"x")) == (422, "IDEMPOTENCY_KEY_CONFLICT")
        assert (shop.executions, shop.results) == (1, ["unknown", "unknown", "conflict"])

    def test_its_exception_reaches_the_server(self, shop):
        client = TestClient(shop.app)
        with pytest.raises(RuntimeError, match="the application has failed"):
            client.post("/raise", headers=KEY)

    def test_one_that_raises_in_the_middle_of_its_answer(self, shop):
        shop.post("/raise-late")
        assert code(shop.post("/raise-late")) == (409, "IDEMPOTENCY_OUTCOME_UNKNOWN")
        assert shop.executions == 1

    def test_the_plain_error_where_the_key_is_executed_again(self):
        shop = Shop(on_unknown="reexecute")
        responses = [shop.post("/raise") for _ in range(2)]
        assert [(it.status_code, it.text) for it in responses] == [(500, "Internal Server Error")] * 2
        assert shop.executions == 2


class TestSizes:
    @pytest.mark.parametrize("size", [0, 1, BUFFERED_BODY, BUFFERED_BODY + 1, 3 * BUFFERED_BODY])
    def test_requests(self, shop, size):
        first, again = (shop.post(content=_pieces(size)) for _ in range(2))
        assert first.text == again.text == f"1:{size}"
        assert is_replay(again)
        assert code(shop.post(content=_pieces(size + 1))) == (422, "IDEMPOTENCY_KEY_CONFLICT")

    @pytest.mark.parametrize("size", [0, 1000, KEPT_BODY])
    def test_answers(self, shop, size):
        first, again = (shop.post(f"/stream?size={size}") for _ in range(2))
        assert first.content == again.content == b"x" * size
        assert is_replay(again)

    def test_an_answer_too_large_to_keep(self, shop):
        first, again = (shop.post(f"/stream?size={LARGE}") for _ in range(2))
        assert len(first.content) == LARGE
        assert code(again) == (409, "RESPONSE_NOT_REPLAYABLE")
        assert again.json()["error"]["original_status"] == 200
        assert shop.executions == 1

    def test_an_application_that_does_not_read(self, shop):
        first, again = (shop.post("/deaf", content=_pieces(2 * BUFFERED_BODY)) for _ in range(2))
        assert (first.text, again.text, is_replay(again)) == ("deaf", "deaf", True)

    def test_a_file(self, shop):
        first, again = (shop.post("/file") for _ in range(2))
        assert first.content == again.content
        assert is_replay(again)


def _pieces(size):
    """An upload in pieces of 64 KiB."""
    for start in range(0, size, 1 << 16):
        yield b"x" * min(1 << 16, size - start)


def test_event_streams_are_not_protected(shop):
    for response in (shop.post("/events"), shop.post("/events")):
        assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert response.headers["x-idempotency-status"] == "unprotected"
    assert (shop.executions, shop.results) == (2, ["unprotected", "unprotected"])


def test_background_tasks_run_once(shop):
    assert [shop.post("/background").text for _ in range(3)] == ["done"] * 3
    assert shop.executions == 1


class TestStoreDown:
    def test_closed(self):
        shop = Shop(store=FlakyStore(SYSTEM_CLOCK))
        with shop.store.refusing():
            response = shop.post()
            assert code(response) == (503, "IDEMPOTENCY_STORE_UNAVAILABLE")
            assert (response.headers["retry-after"], shop.executions) == ("1", 0)
            assert shop.client.post("/orders").text == "1:0"

    def test_open(self):
        shop = Shop(store=FlakyStore(SYSTEM_CLOCK), on_store_down="open")
        with shop.store.refusing():
            responses = [shop.post(), shop.post()]
            assert shop.post("/raise").text == "Internal Server Error"
        assert [(it.text, it.headers["x-idempotency-status"]) for it in responses] == [
            ("1:0", "unprotected"),
            ("2:0", "unprotected"),
        ]
        assert shop.results == ["unprotected"] * 3

    def test_at_completion(self):
        shop = Shop(store=FlakyStore(SYSTEM_CLOCK))
        with shop.client, ThreadPoolExecutor() as pool:
            first = pool.submit(shop.post, "/slow")
            while not shop.executions:
                pass
            with shop.store.refusing():
                shop.go_on.set()
                assert first.result().headers["x-idempotency-status"] == "not-stored"
                assert is_replay(shop.post("/slow"))
            assert is_replay(shop.post("/slow"))
        assert (shop.executions, shop.results[0]) == (1, "not_stored")


def test_below_correlation_ids():
    shop = Shop()
    client = TestClient(CorrelationMiddleware(shop.app))
    first = client.post("/orders", headers=KEY)
    again = client.post("/orders", headers=KEY)
    original = again.headers["x-idempotent-original-correlation-id"]
    assert original == first.headers["x-correlation-id"]
    assert again.headers.get_list("x-correlation-id") != [original]
    assert len(again.headers.get_list("x-correlation-id")) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lease", 0.5),
        ("ttl_seconds", 0),
        ("store_timeout", -1),
        ("fingerprint", "xml"),
        ("on_duplicate", "hang"),
        ("on_unknown", "guess"),
        ("on_store_down", "ajar"),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(ValueError, match=r"."):
        IdempotencyMiddleware(None, MemoryIdempotencyStore(), **{option: value})


class Caller:
    """A server as applications see it, whose client can leave at any moment."""

    def __init__(self, *messages, send_fails=False):
        self.inbox = asyncio.Queue()
        for message in messages:
            self.inbox.put_nowait(message)
        self.sent = []
        self._send_fails = send_fails

    def leave(self):
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def send(self, message):
        if self._send_fails:
            raise OSError("the client has gone")
        self.sent.append(message)

    def call(self, app, path="/"):
        headers = [(b"idempotency-key", b"k"), (b"x-correlation-id", b"c-1")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "extensions": {"a": {}}}
        return app(scope, self.inbox.get, self.send)


def whole(body=b""):
    return {"type": "http.request", "body": body, "more_body": False}


def piece(body):
    return {"type": "http.request", "body": body, "more_body": True}


async def answer(send, body=b"done"):
    await send({"type": "http.response.start", "status": 200, "headers": [[b"a", b"b"]]})
    await send({"type": "http.response.body", "body": body})


async def replayed(app):
    caller = Caller(whole())
    await caller.call(app)
    start, body = caller.sent
    return start["status"], body["body"], dict(start["headers"]).get(b"x-idempotent-replayed")


async def test_a_client_that_goes_away_cancels_nothing():
    go_on = asyncio.Event()
    heard = []

    async def app(_scope, receive, send):
        await receive()
        listening = asyncio.create_task(receive())
        await go_on.wait()
        await answer(send)
        heard.append(await listening)

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(whole(), send_fails=True)
    call = asyncio.create_task(caller.call(middleware))
    caller.leave()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go_on.set()
    await asyncio.wait(middleware._running)
    assert heard == [{"type": "http.disconnect"}]
    assert await replayed(middleware) == (200, b"done", b"true")


async def test_what_fails_after_its_client_has_gone_is_logged(caplog):
    go_on = asyncio.Event()

    async def app(_scope, _receive, _send):
        await go_on.wait()
        raise RuntimeError("too late")

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    call = asyncio.create_task(Caller(whole()).call(middleware))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    go_on.set()
    await asyncio.wait(middleware._running)
    await asyncio.sleep(0)
    assert "failed after its client had gone" in caplog.text


async def test_a_body_that_breaks_off_below_1_mib_executes_nothing():
    executed = []

    async def app(_scope, _receive, send):
        executed.append(1)
        await answer(send)

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(piece(b"half"))
    caller.leave()
    await caller.call(middleware)
    assert (executed, caller.sent) == ([], [])
    assert (await replayed(middleware))[2] is None


async def test_one_that_breaks_off_above_is_an_unknown_outcome():
    async def app(_scope, receive, _send):
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConnectionError("the client has gone")

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(piece(b"x" * BUFFERED_BODY), piece(b"x"))
    caller.leave()
    with pytest.raises(ConnectionError):
        await caller.call(middleware)
    (record,) = (await middleware._store.page()).items
    assert (record.state.name, record.loss.name) == ("UNKNOWN", "UPLOAD")


async def test_a_duplicate_of_a_streamed_request_is_read_to_its_end():
    async def app(_scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await answer(send)

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    messages = (piece(b"x" * BUFFERED_BODY), piece(b"x"), piece(b"y" * 1000), whole(b"end"))
    await Caller(*messages).call(middleware)
    again = Caller(*messages)
    await again.call(middleware)
    assert dict(again.sent[0]["headers"])[b"x-idempotent-replayed"] == b"true"
    assert again.inbox.empty()


@pytest.mark.parametrize("messages", [(), ("http.response.start",)])
async def test_an_application_that_ends_without_an_answer(messages):
    async def app(_scope, _receive, send):
        for kind in messages:
            await send({"type": kind, "status": 200})

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(whole())
    await caller.call(middleware)
    assert caller.sent[0]["status"] == 504
    assert (await replayed(middleware))[0] == 409


async def test_an_event_stream_hears_that_its_client_has_gone():
    async def app(_scope, receive, send):
        headers = [(b"Content-Type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b""})

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(whole())
    caller.leave()
    await caller.call(middleware)
    assert caller.sent[0]["headers"][-1] == (b"x-idempotency-status", b"unprotected")


async def test_interim_answers_pass_and_answers_that_could_not_be_kept_are_not_offered():
    seen = {}

    async def app(scope, _receive, send):
        seen.update(scope["extensions"])
        await send({"type": "http.response.early_hint", "links": []})
        await answer(send)

    middleware = IdempotencyMiddleware(app, MemoryIdempotencyStore())
    caller = Caller(whole())
    headers = [(b"idempotency-key", b"k")]
    extensions = {"http.response.pathsend": {}, "http.response.early_hint": {}}
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "extensions": extensions}
    await middleware(scope, caller.inbox.get, caller.send)
    assert seen == {"http.response.early_hint": {}}
    assert caller.sent[0]["type"] == "http.response.early_hint"


async def test_the_end_of_the_lifespan_waits_for_what_runs():
    go_on = asyncio.Event()

    async def app(scope, _receive, send):
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await go_on.wait()
            await answer(send)

    store = MemoryIdempotencyStore()
    middleware = IdempotencyMiddleware(app, store)
    call = asyncio.create_task(Caller(whole()).call(middleware))
    await asyncio.sleep(0.01)
    told = []

    async def tell(message):
        told.append(message["type"])

    ending = asyncio.create_task(middleware({"type": "lifespan"}, None, tell))
    await asyncio.sleep(0.01)
    assert told == ["lifespan.startup.complete"]
    go_on.set()
    await asyncio.gather(call, ending)
    assert told[-1] == "lifespan.shutdown.complete"
