"""Events as bytes, for the spool. The payload's own bytes are kept as they are."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from sidecar.events.cloudevents import Event

_VERSION: Final = 1


class CodecError(ValueError):
    """The bytes are no event that this version has written."""


class Addressed(NamedTuple):
    """An event and the stream that it is for.

    Attributes:
        event_type: Names the stream. The event's own ``type`` may be another.
        event: The event.
    """

    event_type: str
    event: Event


def encode(event_type: str, event: Event) -> bytes:
    """One line of JSON, then the payload."""
    head = {"v": _VERSION, "stream": event_type, "attributes": dict(event.attributes)}
    return orjson.dumps(head) + b"\n" + event.data


def decode(value: bytes) -> Addressed:
    """What :func:`encode` has written.

    Raises:
        CodecError: It has not.
    """
    line, _, data = value.partition(b"\n")
    try:
        head = orjson.loads(line)
        if head["v"] != _VERSION:
            raise CodecError(f"written in format {head['v']}; this version reads format {_VERSION}")
        return Addressed(head["stream"], Event(head["attributes"], data))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CodecError(f"no event: {type(error).__name__}: {error}") from None
