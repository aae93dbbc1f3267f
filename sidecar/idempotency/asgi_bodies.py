"""The two bodies of a keyed request to an ASGI application: what it reads, and what it answers with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sidecar.errors import ClientGone
from sidecar.idempotency.core import BUFFERED_BODY, KEPT_BODY
from sidecar.idempotency.execution import UNPROTECTED, UnprotectedExecution

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.asgi import Message, Receive, Send
    from sidecar.idempotency.execution import Execution
    from sidecar.idempotency.fingerprint import Fingerprinter

Fields = list[tuple[bytes, bytes]]

_OURS: Final = frozenset(
    (b"x-idempotent-replayed", b"x-idempotent-original-correlation-id", b"x-idempotency-status")
)
_STATUS: Final = b"x-idempotency-status"
_EVENT_STREAM: Final = b"text/event-stream"


class RequestBody:
    """A request's body: up to 1 MiB is read before the claim, what follows while the application reads it.

    The application does not hear that the client has gone once its request is whole: it runs on, and its
    answer is kept.

    Attributes:
        fingerprinter: Sees what is read after the claim.
    """

    __slots__ = ("_over", "_pieces", "_receive", "_whole", "fingerprinter")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._pieces: list[bytes] = []
        self._whole = False
        self._over = asyncio.Event()
        self.fingerprinter: Fingerprinter | None = None

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return self._whole

    async def read(self) -> bytes:
        """What comes before the claim: the whole body, or a little more than 1 MiB of it.

        Raises:
            ClientGone: It broke off; nothing has been executed.
        """
        size = 0
        while not self._whole and size <= BUFFERED_BODY:
            piece = await self._next()
            self._pieces.append(piece)
            size += len(piece)
        self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def drain(self) -> None:
        """Read the rest and drop it; the fingerprinter sees it.

        Raises:
            ClientGone: It broke off.
        """
        self._pieces.clear()
        while not self._whole:
            await self._next()

    async def receive(self) -> Message:
        """What the application calls: the body in pieces, then nothing until it has answered."""
        if self._pieces:
            piece = self._pieces.pop()
        elif self._whole:
            await self._over.wait()
            return await self._receive()
        else:
            try:
                piece = await self._next()
            except ClientGone:
                return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": not self._whole}

    def let_go(self) -> None:
        """The answer is over, or is not protected: let the application hear of the client."""
        self._over.set()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self._whole = not message.get("more_body", False)
        if self.fingerprinter is not None:
            self.fingerprinter.update(piece)
        return piece


class Answer:
    """Keeps the application's answer until it is whole, settles the key, and only then lets it go.

    One of more than 1 MiB is passed on as it comes, but for its last piece; an event stream is not protected.

    Args:
        send: The server's.
        execution: Of the key.
        body: The request's.

    Attributes:
        execution: Of the key; an unprotected one once the key has been given up.
        begun: Whether the client has been sent anything.
        settled: Whether the answer was whole.
    """

    __slots__ = (
        "_body",
        "_client_gone",
        "_held",
        "_send",
        "_size",
        "_start",
        "begun",
        "execution",
        "settled",
    )

    def __init__(self, send: Send, execution: Execution | UnprotectedExecution, body: RequestBody) -> None:
        self._send = send
        self._body = body
        self._start: Message = {}
        self._held: list[bytes] = []
        self._size = 0
        self._client_gone = False
        self.execution = execution
        self.begun = False
        self.settled = False

    async def send(self, message: Message) -> None:
        """What the application calls."""
        kind = message["type"]
        if kind == "http.response.start":
            await self._begin(message)
        elif kind != "http.response.body":
            await self.deliver(message)
        elif isinstance(self.execution, UnprotectedExecution):
            await self._pass_on(message)
        else:
            await self._collect(
                self.execution, message.get("body", b""), more=message.get("more_body", False)
            )

    async def deliver(self, message: Message) -> None:
        """Give a message to the server; that the client has gone ends nothing here."""
        if self._client_gone:
            return
        try:
            await self._send(message)
        except OSError:
            if not self.execution.protected:
                raise
            self._client_gone = True

    async def _begin(self, message: Message) -> None:
        fields = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in _OURS]
        if _is_event_stream(fields) and self.execution.protected:
            await self.execution.release()
            self.execution = UNPROTECTED
        if not self.execution.protected:
            fields.append((_STATUS, b"unprotected"))
            self._body.let_go()
        self._start = {**message, "headers": fields}

    async def _pass_on(self, message: Message) -> None:
        await self._send_start()
        await self.deliver(message)
        self.settled = not message.get("more_body", False)

    async def _collect(self, execution: Execution, piece: bytes, *, more: bool) -> None:
        self._held.append(piece)
        self._size += len(piece)
        if self._size > KEPT_BODY:
            await self._flow()
        if more:
            return
        fingerprinter = self._body.fingerprinter
        if fingerprinter is not None and self._body.whole:
            await execution.body_passed(fingerprinter.finish())
        status = self._start["status"]
        last = b"".join(self._held)
        if self.begun:
            await execution.complete_without_body(status)
        elif not await execution.complete(status, self._start["headers"], last):
            self._start["headers"].append((_STATUS, b"not-stored"))
        self.settled = True
        self._body.let_go()
        await self._send_start()
        await self.deliver({"type": "http.response.body", "body": last})

    async def _flow(self) -> None:
        """The answer is too large to keep: pass on what there is of it, but for the last piece."""
        await self._send_start()
        *pieces, last = self._held
        self._held = [last]
        for piece in pieces:
            await self.deliver({"type": "http.response.body", "body": piece, "more_body": True})

    async def _send_start(self) -> None:
        if not self.begun:
            self.begun = True
            await self.deliver(self._start)


def _is_event_stream(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(_EVENT_STREAM) for name, value in fields
    )
