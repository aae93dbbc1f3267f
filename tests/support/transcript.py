"""What the readers of the wire make of octets, written down so that two readings can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sidecar.errors import SidecarError
from sidecar.wire.body import UntilCloseBody
from sidecar.wire.fields import REQUEST_FIELDS, RESPONSE_FIELDS, FieldRules
from sidecar.wire.head import Limits, RequestHead, ResponseHead
from sidecar.wire.reader import RequestReader, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REQUEST_RULES = FieldRules(REQUEST_FIELDS)
RESPONSE_RULES = FieldRules(RESPONSE_FIELDS)
DEFAULT = Limits()


@dataclass
class Message:
    """A head, and as much of its body as has come.

    Attributes:
        behind: How many octets had come behind its end when that was read.
    """

    head: RequestHead | ResponseHead
    payload: bytes = b""
    trailers: list[bytes] = field(default_factory=list)
    whole: bool = False
    behind: int = 0

    def facts(self) -> dict[str, Any]:
        """All that is known of it, however it came."""
        head = {name: getattr(self.head, name) for name in type(self.head).__slots__}
        head["fields"] = self.head.fields.raw
        return {**head, "payload": self.payload, "trailers": self.trailers, "whole": self.whole}


@dataclass
class Transcript:
    """What has been read.

    Attributes:
        messages: In order; only the last one may not be whole.
        fault: What ended the reading, or ``None``.
        left: Octets that no message has used yet.
    """

    messages: list[Message] = field(default_factory=list)
    fault: SidecarError | None = None
    left: bytes = b""

    def facts(self) -> dict[str, Any]:
        """What must not depend on how the octets came.

        Of a body that turns out to be malformed, more or less may have been passed on before. A fault is
        told by its kind, which decides the answer; the ``reason`` in the log says what was seen of it first.
        """
        messages = [message.facts() for message in self.messages]
        if self.fault is None:
            return {"messages": messages, "fault": None, "left": self.left}
        if messages and not messages[-1]["whole"]:
            del messages[-1]["payload"]
        return {"messages": messages, "fault": type(self.fault)}


def read_requests(pieces: Iterable[bytes], limits: Limits = DEFAULT) -> Transcript:
    """Read a connection's requests as they arrive in ``pieces``."""
    reader = RequestReader(REQUEST_RULES, limits)
    return _read(reader, reader.next_head, pieces)


def read_responses(pieces: Iterable[bytes], method: bytes = b"GET", limits: Limits = DEFAULT) -> Transcript:
    """Read what an upstream sends in ``pieces`` in answer to requests with ``method``."""
    reader = ResponseReader(RESPONSE_RULES, limits)
    return _read(reader, lambda: reader.next_head(method), pieces)


def _read(
    reader: RequestReader | ResponseReader,
    next_head: Callable[[], RequestHead | ResponseHead | None],
    pieces: Iterable[bytes],
) -> Transcript:
    """Every error that is not a :class:`SidecarError` is passed on: it is a fault of the reader's."""
    transcript = Transcript()
    messages = transcript.messages
    try:
        for piece in pieces:
            reader.push(piece)
            while reader.buffer:
                if not messages or messages[-1].whole:
                    head = next_head()
                    if head is None:
                        break
                    messages.append(Message(head))
                else:
                    messages[-1].payload += reader.read_body()
                body = reader.body
                messages[-1].whole = body.done
                messages[-1].trailers = body.trailers
                messages[-1].behind = len(reader.buffer)
    except SidecarError as fault:
        transcript.fault = fault
    if isinstance(reader.body, UntilCloseBody) and messages:
        reader.body.end()
        messages[-1].whole = True
    transcript.left = reader.buffer
    return transcript
