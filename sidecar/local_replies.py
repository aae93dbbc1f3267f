"""Answers that the sidecar gives itself; local replies, in the word that Envoy has for them.

What goes over the wire is made in `reply.py`. Here it meets an exchange, or a connection whose request could
not even be read: what the client and the access line are told, and whether the connection can go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecar.correlation import choose
from sidecar.errors import BadRequest, SidecarError
from sidecar.failures import circuit_open
from sidecar.reply import FrequentReply, asks_for_problem, error_reply
from sidecar.wire.remains import remains

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.net.server import ServerConnection


def answer_error(exchange: Exchange, error: SidecarError) -> None:
    """Answer with an error, or break the connection if the response has already begun."""
    connection = exchange.connection
    exchange.detach_upstream()
    exchange.reason = reason_of(error)
    if exchange.head_sent:
        connection.abort()
        return
    if isinstance(error, BadRequest) or not exchange.body.done:
        connection.persistent = False
    if connection.draining:
        connection.persistent = False
    exchange.status = error.answer_status
    added = exchange.added + exchange.notes
    if not connection.persistent:
        added += b"Connection: close\r\n"
    head, body = error_reply(
        error,
        accept=exchange.head.values(b"accept"),
        correlation_id=exchange.correlation_id,
        added=added,
    )
    exchange.head_sent = True
    if not exchange.detached:
        exchange.bytes_out = len(body)
        connection.write(head if exchange.head.method == b"HEAD" else head + body)


class OpenCircuitAnswer:
    """The answer behind an open breaker: in an outage this is what every request costs."""

    __slots__ = ("_accepted", "_reason", "_reply")

    def __init__(self) -> None:
        self._accepted: list[bytes] | None = None  # what a client accepts is the same object, as a rule
        error = circuit_open(0)
        self._reply = FrequentReply(error)
        self._reason = reason_of(error)

    def give(self, exchange: Exchange, seconds: int) -> None:
        """Answer as :func:`answer_error` does; no breaker lets a request pass for so many seconds."""
        connection, head = exchange.connection, exchange.head
        ordinary = exchange.body.done and connection.persistent and not connection.draining
        accepted = head.special.get(b"accept")
        if accepted is not self._accepted and not asks_for_problem(accepted):
            self._accepted = accepted
        if not ordinary or head.method == b"HEAD" or accepted is not self._accepted:
            answer_error(exchange, circuit_open(seconds))
            return
        exchange.reason = self._reason
        exchange.status = self._reply.status
        exchange.head_sent = True
        added = exchange.added + exchange.notes if exchange.notes else exchange.added
        answer, exchange.bytes_out = self._reply.make(
            exchange.started, seconds, exchange.correlation_id, added
        )
        connection.write(answer)


class Refusal(NamedTuple):
    """What there is to tell of a request that was refused unread.

    Attributes:
        method: As sent, or nothing.
        target: As sent, or nothing.
        correlation_id: Taken from the request or made.
        bytes_out: Octets of the answer's body.
    """

    method: bytes
    target: bytes
    correlation_id: bytes
    bytes_out: int


def refuse(connection: ServerConnection, error: SidecarError) -> Refusal:
    """Answer what could not be read as a request; nothing can follow it on its connection."""
    listener = connection.listener
    found = remains(connection.reader.buffer, listener.limits.head)
    correlation_id = choose(found.values(listener.correlation_field), trust=listener.trust_ids)
    request_id = choose(found.values(b"x-request-id"), trust=listener.trust_ids)
    head, body = error_reply(
        error,
        accept=found.values(b"accept"),
        correlation_id=correlation_id,
        added=listener.id_fields(correlation_id, request_id) + b"Connection: close\r\n",
    )
    connection.persistent = False
    if found.method == b"HEAD":
        body = b""
    connection.write(head + body)
    return Refusal(found.method, found.target, correlation_id, len(body))


def reason_of(error: SidecarError) -> str:
    """Code and cause, as the access line takes them apart again."""
    code = error.code.lower()
    return f"{code}:{error.reason}" if error.reason else code
