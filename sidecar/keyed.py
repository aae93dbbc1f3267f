"""Requests with an idempotency key: executed at most once, and answered the same way every time.

Such an exchange outlives its client: when the connection is lost, it is told that nobody reads its answer,
and goes on. What holds it then is what it waits for: its upstream's connection, or the command to the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.collector import Collector
from sidecar.digits import decimal
from sidecar.errors import (
    ClientGone,
    SidecarError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from sidecar.idempotency.core import BUFFERED_BODY, KEPT_BODY, Loss
from sidecar.idempotency.engine import Replay, Undecided, is_heavy
from sidecar.idempotency.execution import UNPROTECTED
from sidecar.idempotency.fingerprint import Fingerprinter, take
from sidecar.idempotency.record import Response, has_secret
from sidecar.reply import DATE
from sidecar.responses import is_event_stream, status_line
from sidecar.tracing.record import Link
from sidecar.wire.body import last_chunk

if TYPE_CHECKING:
    from sidecar.attempts import Attempts
    from sidecar.exchange import Exchange
    from sidecar.idempotency.engine import Engine
    from sidecar.idempotency.execution import Execution, UnprotectedExecution
    from sidecar.idempotency.record import Headers
    from sidecar.proxy import Proxy
    from sidecar.wire.head import ResponseHead

_UNPROTECTED: Final = b"X-Idempotency-Status: unprotected\r\n"
_NOT_STORED: Final = b"X-Idempotency-Status: not-stored\r\n"
_WITHOUT_LENGTH: Final = (204, 304)


class Keyed:
    """Claims keys and settles them."""

    def __init__(self, proxy: Proxy, engine: Engine, attempts: Attempts) -> None:
        self._proxy = proxy
        self._engine = engine
        self._attempts = attempts
        self._last_headers: Headers = ()
        self._last_lines = b""

    async def run(self, exchange: Exchange) -> None:
        """Execute the request, replay its response, or refuse it."""
        head, policy = exchange.head, exchange.plan.policy
        try:
            if head.expects_continue:
                exchange.body.answer_expect()
            whole = exchange.body.done or await self._read(exchange)
            exchange.arm(None, "total")
            exchange.outlives_client = True
            body = exchange.body.kept
            types = head.values(b"content-type")
            media_type = types[0] if types else b""
            if not whole:
                exchange.body.fingerprinter = Fingerprinter(policy.kind, head.method, head.target, media_type)
                exchange.body.fingerprinter.update(body)
                fingerprint = exchange.body.fingerprinter.provisional()
            elif is_heavy(policy, body):
                fingerprint = await self._engine.fingerprint(
                    policy, head.method, head.target, media_type, body
                )
            else:
                fingerprint = take(policy.kind, head.method, head.target, media_type, body)
            outcome = await self._engine.claim(
                policy,
                self._record_id(exchange),
                fingerprint,
                exchange.correlation_id.decode(),
                exchange.span,
            )
            if isinstance(outcome, Undecided):
                await exchange.body.drain()
                assert exchange.body.fingerprinter is not None
                outcome = await outcome.decide(exchange.body.fingerprinter.finish())
        except SidecarError as error:
            self._proxy.count_key(exchange, error.reason)
            raise
        if isinstance(outcome, Replay):
            self._replay(exchange, outcome)
        else:
            await self._execute(exchange, outcome)

    @staticmethod
    async def _read(exchange: Exchange) -> bool:
        """Read the body, or the beginning of one that streams; whether that is all of it."""
        length = exchange.head.length
        if length is None or length <= BUFFERED_BODY:
            return await exchange.body.read(BUFFERED_BODY + 1)
        await exchange.body.begins()
        return False

    @staticmethod
    def _record_id(exchange: Exchange) -> str:
        if not exchange.claim:
            head, policy = exchange.head, exchange.plan.policy
            assert exchange.key is not None
            exchange.claim = policy.record_id([head.values(name) for name in policy.scope], exchange.key)
        return exchange.claim

    # --- execute ----------------------------------------------------------------------------------------

    async def _execute(self, exchange: Exchange, execution: Execution | UnprotectedExecution) -> None:
        if not execution.protected:
            exchange.notes += _UNPROTECTED
        head_came = False
        try:
            if exchange.trail is not None:
                await exchange.trail.begin()
            response = await self._proxy.send(exchange)
            head_came = True
            if is_event_stream(response):
                execution = await self._give_up(exchange, execution)
                if exchange.trail is not None:
                    await exchange.trail.end(response, None)
                await self._stream(exchange, response)
            else:
                await self._collect(exchange, execution, response)
        except (SidecarError, ClientGone) as error:
            if head_came:
                self._attempts.end(exchange, error)
            raise await self._settle_failure(exchange, execution, error, head_came=head_came) from error
        except BaseException as error:
            if head_came:
                self._attempts.end(exchange, error)
            execution.forsake(sent=exchange.sent)
            raise
        self._proxy.count_key(exchange, execution.result)

    async def _settle_failure(
        self,
        exchange: Exchange,
        execution: Execution | UnprotectedExecution,
        error: SidecarError | ClientGone,
        *,
        head_came: bool,
    ) -> Exception:
        """Free the key if nothing was sent, else mark its outcome as unknown; what the client is told."""
        if not exchange.sent:
            await execution.release()
            told = None
        else:
            told = await execution.mark_unknown(_loss(error, head_came=head_came))
            if told is not None:
                told.__cause__ = error  # a dead letter wants to know; compiled, `raise … from` forgets it
        self._proxy.count_key(exchange, execution.result)
        return told or error

    async def _collect(
        self, exchange: Exchange, execution: Execution | UnprotectedExecution, response: ResponseHead
    ) -> None:
        """Take the whole response, settle the key, and only then let the client see its end."""
        collector = Collector(self._proxy, exchange, response, keep=KEPT_BODY)
        if not collector.take():
            await exchange.wait()
        trailers = collector.trailers
        fingerprinter, request_done = exchange.body.fingerprinter, exchange.body.done
        self._attempts.end(exchange, None)
        exchange.arm(None, "settled")
        if fingerprinter is not None and request_done:
            await execution.body_passed(fingerprinter.finish())
        # Else it was answered before it had been read: its record can be compared by its head alone.
        body = collector.body()
        if exchange.trail is not None:
            await exchange.trail.end(response, body)
        if body is None:
            await execution.complete_without_body(response.status)
        else:
            fields = response.fields
            headers = exchange.plan.policy.replayable_lines(fields.raw, fields.lines)
            if not await execution.keep(Response(response.status, headers, body)):
                exchange.notes += _NOT_STORED
        collector.answer(body, trailers)

    @staticmethod
    async def _give_up(
        exchange: Exchange, execution: Execution | UnprotectedExecution
    ) -> UnprotectedExecution:
        """An event stream cannot be kept: the key is free again, and the client is told before it begins."""
        if execution.protected:
            await execution.release()
            exchange.notes += _UNPROTECTED
        exchange.outlives_client = False
        return UNPROTECTED

    async def _stream(self, exchange: Exchange, response: ResponseHead) -> None:
        """Pass an event stream on as it comes, as long as the client is there."""
        upstream = exchange.upstream
        assert upstream is not None
        if exchange.detached:
            raise ClientGone
        first = upstream.take_body()
        exchange.connection.write(self._proxy.response_head(exchange, response))
        exchange.head_sent = True
        if first:
            exchange.deliver(first)
        if not upstream.reader.body.done:
            self._proxy.watch_stream(exchange, response)
            upstream.relay_body(exchange.deliver)
            await exchange.wait()
        if exchange.writes_chunks:
            exchange.connection.write(last_chunk(upstream.reader.body.trailers))
        self._attempts.end(exchange, None)

    # --- replay -----------------------------------------------------------------------------------------

    def _replay(self, exchange: Exchange, replay: Replay) -> None:
        """Answer with the first request's response: its status, fields and body, to the octet."""
        connection = exchange.connection
        self._proxy.count_key(exchange, replay.result)
        if replay.span:
            exchange.links = (Link(replay.span[:16].hex(), replay.span[16:].hex()),)
        if connection.draining or not exchange.body.done:
            connection.persistent = False
        exchange.status = replay.status
        exchange.bytes_out = len(replay.body)
        exchange.head_sent = True
        status, body = replay.status, replay.body
        lines = self._lines_of(replay.headers)
        length = b"" if status in _WITHOUT_LENGTH else b"Content-Length: %b\r\n" % decimal(len(body))
        close = b"" if connection.persistent else b"Connection: close\r\n"
        if connection.persistent and exchange.head.minor == 0:
            close = b"Connection: keep-alive\r\n"
        if not exchange.detached:
            connection.write(
                b"%b%b%b%b%b%b%bX-Idempotent-Replayed: true\r\n"
                b"X-Idempotent-Original-Correlation-ID: %b\r\n\r\n%b"
                % (
                    status_line(status),
                    lines,
                    length,
                    DATE.line(),
                    close,
                    exchange.added,
                    exchange.notes,
                    replay.correlation_id.encode(),
                    body,
                )
            )

    def _lines_of(self, headers: Headers) -> bytes:
        """Field lines; those of headers that come again, the very same object, are at hand."""
        if headers is self._last_headers:
            return self._last_lines
        lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in headers])
        if not has_secret(lines):
            self._last_headers = headers
            self._last_lines = lines
        return lines


def _loss(error: SidecarError | ClientGone, *, head_came: bool) -> Loss:
    """Why the outcome is unknown."""
    if isinstance(error, UpstreamTimeout):
        return Loss.TIMEOUT
    if isinstance(error, UpstreamProtocolError):
        return Loss.PROTOCOL
    if isinstance(error, UpstreamError):
        return Loss.TRUNCATED if head_came else Loss.RESET
    return Loss.UPLOAD
