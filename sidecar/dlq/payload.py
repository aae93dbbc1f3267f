"""Values of a program as bytes, whatever they are: a dead letter must not fail for its payload."""

from __future__ import annotations

import json
from typing import Any

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS


def payload_bytes(payload: Any) -> bytes:
    """``payload`` as JSON; bytes as they are; what JSON cannot express as its ``repr``."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        return orjson.dumps(payload, default=repr, option=_OPTIONS)
    except orjson.JSONEncodeError:
        return _slowly(payload)


def _slowly(payload: Any) -> bytes:
    """For integers beyond 64 bits, halves of surrogate pairs, and what contains itself."""
    try:
        text = json.dumps(payload, default=repr, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        text = json.dumps(repr(payload))
    return text.encode()
