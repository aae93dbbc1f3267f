"""Idempotency keys for ASGI applications that run without the sidecar."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sidecar.asgi import header_values
from sidecar.correlation import choose, current_correlation_id
from sidecar.errors import ClientGone, SidecarError
from sidecar.idempotency.asgi_bodies import Answer, RequestBody
from sidecar.idempotency.core import Loss
from sidecar.idempotency.engine import Engine, Replay, Undecided
from sidecar.idempotency.fingerprint import Fingerprinter, Kind
from sidecar.idempotency.policy import RELEASED_STATUSES, RoutePolicy
from sidecar.idempotency.sent import SentKeys
from sidecar.reply import error_content, error_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from sidecar.asgi import Application, Message, Receive, Scope, Send
    from sidecar.idempotency.asgi_bodies import Fields
    from sidecar.idempotency.execution import Execution, UnprotectedExecution
    from sidecar.idempotency.store import IdempotencyStore

# An answer that goes by these is not seen here, so it could not be kept.
_UNSEEN: Final = ("http.response.pathsend", "http.response.zerocopysend", "http.response.trailers")
_WITHOUT_LENGTH: Final = (204, 304)
_PATIENCE: Final = 30.0  # seconds at the end for requests whose clients have gone
_SHORTEST_LEASE: Final = 1.0

_logger = logging.getLogger(__name__)


class IdempotencyMiddleware:
    """Lets a request with an ``Idempotency-Key`` reach the application at most once, and replays its answer.

    ::

        store = RedisIdempotencyStore(url=os.environ["REDIS_URL"], key_prefix="idempotency:requests:")
        app.add_middleware(IdempotencyMiddleware, store=store, ttl_seconds=86_400)

    The rules are those of the sidecar (``docs/idempotency.md``), with the application in the upstream's
    place: one that raises, or ends without a whole answer, leaves an unknown outcome. Its exception goes on
    to the server. A request outlives its client; event streams and WebSockets are not protected.

    Args:
        app: The ASGI application.
        store: Where records live. It is closed at the end of the application's lifespan.
        header_name: The field that carries the key.
        ttl_seconds: How long a settled record is kept.
        methods: Methods that are protected; others pass untouched.
        required: Refuse requests without a key.
        fingerprint: How bodies are compared: ``raw``, ``json``, ``form`` or ``multipart``.
        scope: Headers that tell callers apart.
        name: Part of every record's identity, and its route for operators; applications that share a store
            and its prefix need different ones.
        lease: Seconds that a claim holds without being renewed; at least 1.
        on_duplicate: While the first request runs: ``reject`` or ``wait``.
        wait_timeout: Seconds that a duplicate waits.
        on_unknown: After an unknown outcome: ``hold`` the key, or ``reexecute``.
        on_store_down: ``closed`` answers 503, ``open`` executes and marks the answer as unprotected.
        store_timeout: Seconds that the store may be silent before it counts as down.
        release_on: Statuses that are not kept: the key is free again.
        replay_set_cookie: Replay ``Set-Cookie``, too.
        correlation_header: The field that carries the correlation id.
        on_result: Called with what came of each key, in the words of ``idempotency_requests_total``.

    Raises:
        ValueError: An option is none of those.
    """

    def __init__(
        self,
        app: Application,
        store: IdempotencyStore,
        *,
        header_name: str = "Idempotency-Key",
        ttl_seconds: float = 86_400.0,
        methods: Iterable[str] = ("POST", "PUT", "PATCH"),
        required: bool = False,
        fingerprint: str = "raw",
        scope: Iterable[str] = ("Authorization",),
        name: str = "app",
        lease: float = 15.0,
        on_duplicate: str = "reject",
        wait_timeout: float = 5.0,
        on_unknown: str = "hold",
        on_store_down: str = "closed",
        store_timeout: float = 1.0,
        release_on: Iterable[int] = RELEASED_STATUSES,
        replay_set_cookie: bool = False,
        correlation_header: str = "X-Correlation-ID",
        on_result: Callable[[str], object] | None = None,
    ) -> None:
        if lease < _SHORTEST_LEASE or min(ttl_seconds, store_timeout) <= 0 or wait_timeout < 0:
            raise ValueError("a lease has at least 1 second, other times are positive")
        self._app = app
        self._store = store
        self._header = header_name.lower().encode("ascii")
        self._correlation_header = correlation_header.lower().encode("ascii")
        self._on_result = on_result or _ignore
        self._policy = RoutePolicy(
            service="",  # no sidecar's name: one that shares the store has records of its own
            route=name,
            methods=frozenset(method.upper().encode("ascii") for method in methods),
            required=required,
            ttl=ttl_seconds,
            kind=Kind[_one_of("fingerprint", fingerprint, *(kind.name.lower() for kind in Kind)).upper()],
            scope=tuple(field.lower().encode("ascii") for field in scope),
            lease=lease,
            wait=_one_of("on_duplicate", on_duplicate, "reject", "wait") == "wait",
            wait_timeout=wait_timeout,
            store_open=_one_of("on_store_down", on_store_down, "closed", "open") == "open",
            store_timeout=store_timeout,
            reexecute=_one_of("on_unknown", on_unknown, "hold", "reexecute") == "reexecute",
            release_on=frozenset(release_on),
            replay_set_cookie=replay_set_cookie,
            correlation_header=self._correlation_header,
        )
        self._sent = SentKeys()
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; WebSockets pass through, the lifespan's end closes the store."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._closing(send))
        elif scope["type"] == "http" and self._policy.applies(scope["method"].encode("latin-1")):
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        correlation_id = self._correlation_id(scope)
        body = RequestBody(receive)
        try:
            key = self._policy.read_key(header_values(scope, self._header))
            outcome = None if key is None else await self._claim(scope, key, body, correlation_id)
        except SidecarError as error:
            self._on_result(error.reason)
            await _answer(send, *self._refusal(scope, error, correlation_id))
        except ClientGone:
            return  # its request broke off before it was executed
        else:
            if outcome is None:
                await self._app(scope, receive, send)
            elif isinstance(outcome, Replay):
                await self._replay(outcome, send, correlation_id)
            else:
                await self._outlive(self._execute(scope, send, outcome, body, correlation_id))

    async def _outlive(self, execution: Coroutine[Any, Any, None]) -> None:
        """Wait for an execution, and let it go on where this wait is cancelled."""
        task = asyncio.create_task(execution, name="keyed request")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    async def _claim(
        self, scope: Scope, key: bytes, body: RequestBody, correlation_id: bytes
    ) -> Execution | UnprotectedExecution | Replay:
        policy, engine = self._policy, self._engine_here()
        content = await body.read()
        method, target = scope["method"].encode("latin-1"), _target(scope)
        (media_type, *_) = header_values(scope, b"content-type") or [b""]
        record_id = policy.record_id([header_values(scope, name) for name in policy.scope], key)
        if body.whole:
            fingerprint = await engine.fingerprint(policy, method, target, media_type, content)
        else:
            body.fingerprinter = Fingerprinter(policy.kind, method, target, media_type)
            body.fingerprinter.update(content)
            fingerprint = body.fingerprinter.provisional()
        outcome = await engine.claim(policy, record_id, fingerprint, correlation_id.decode())
        if isinstance(outcome, Undecided):
            await body.drain()
            assert body.fingerprinter is not None
            outcome = await outcome.decide(body.fingerprinter.finish())
        return outcome

    async def _execute(
        self,
        scope: Scope,
        send: Send,
        execution: Execution | UnprotectedExecution,
        body: RequestBody,
        correlation_id: bytes,
    ) -> None:
        if extensions := scope.get("extensions"):
            scope["extensions"] = {name: it for name, it in extensions.items() if name not in _UNSEEN}
        answer = Answer(send, execution, body)
        try:
            await self._app(scope, body.receive, answer.send)
        finally:
            if not answer.settled:
                await self._lose(scope, answer, body, correlation_id)
            self._on_result(answer.execution.result)

    async def _lose(self, scope: Scope, answer: Answer, body: RequestBody, correlation_id: bytes) -> None:
        """The application has ended without a whole answer: nobody knows what it has done."""
        loss = Loss.TRUNCATED if answer.begun else Loss.RESET
        told = await answer.execution.mark_unknown(loss if body.whole else Loss.UPLOAD)
        if told is not None and not answer.begun:
            await _answer(answer.deliver, *self._refusal(scope, told, correlation_id))

    async def _replay(self, replay: Replay, send: Send, correlation_id: bytes) -> None:
        self._on_result(replay.result)
        fields = [
            *replay.headers,
            (b"x-idempotent-replayed", b"true"),
            (b"x-idempotent-original-correlation-id", replay.correlation_id.encode()),
            (self._correlation_header, correlation_id),
        ]
        if replay.status not in _WITHOUT_LENGTH:
            fields.append((b"content-length", b"%d" % len(replay.body)))
        await _answer(send, replay.status, fields, replay.body)

    def _refusal(self, scope: Scope, error: SidecarError, correlation_id: bytes) -> tuple[int, Fields, bytes]:
        """Status, fields and body of an answer of our own."""
        media_type, content = error_content(
            error, accept=header_values(scope, b"accept"), correlation_id=correlation_id
        )
        fields = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(content)),
            *((name.lower(), value) for name, value in error_fields(error)),
            (self._correlation_header, correlation_id),
        ]
        return error.answer_status, fields, content

    def _correlation_id(self, scope: Scope) -> bytes:
        known = current_correlation_id()
        return known.encode() if known else choose(header_values(scope, self._correlation_header))

    def _engine_here(self) -> Engine:
        """The engine of the running loop; test clients give an application one after another."""
        loop = asyncio.get_running_loop()
        if self._engine is None or self._loop is not loop:
            self._engine, self._loop = Engine(self._store, sent=self._sent), loop
            self._engine.start()
        return self._engine

    def _closing(self, send: Send) -> Send:
        """``send`` of a lifespan; before its end is told, all requests end and the store is closed."""

        async def send_closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown.") and self._engine is not None:
                if self._running:
                    await asyncio.wait(self._running, timeout=_PATIENCE)
                engine, self._engine = self._engine, None
                await engine.aclose()
                self._sent = SentKeys()  # a store in memory has forgotten its records, too
            await send(message)

        return send_closing


async def _answer(send: Send, status: int, fields: Fields, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


def _target(scope: Scope) -> bytes:
    """The request's target as it came, with its query."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


def _one_of(option: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise ValueError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
    return value


def _ignore(result: str) -> None:
    """The default for ``on_result``."""


def _log_failure(execution: asyncio.Task[None]) -> None:
    """Nobody waits for the application any more, so nobody else tells what it has raised."""
    if not execution.cancelled() and (error := execution.exception()) is not None:
        _logger.error("a keyed request failed after its client had gone", exc_info=error)
