"""Small facts about responses."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.wire.head import ResponseHead

_EVENT_STREAM: Final = b"text/event-stream"


def is_event_stream(response: ResponseHead) -> bool:
    """Whether the response is a stream of server-sent events."""
    types = response.special.get(b"content-type")
    return types is not None and types[0][: len(_EVENT_STREAM)].lower() == _EVENT_STREAM


@lru_cache(maxsize=128)
def phrase_of(status: int) -> bytes:
    """The reason phrase of ``status``; empty for one that nobody has registered."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
