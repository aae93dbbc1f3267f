"""What a log line is made of, and how values become safe text."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from sidecar.log.masking import MASK, is_secret, mask_url

MAX_TEXT: Final = 2048
"""Characters of one value that are shown; more is cut."""

_MAX_ITEMS: Final = 50
_MAX_DEPTH: Final = 4


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        time: Seconds since the Unix epoch.
        level: One of ``debug``, ``info``, ``warning``, ``error``.
        name: What happened, a constant that people search for.
        fields: The circumstances.
    """

    time: float
    level: str
    name: str
    fields: dict[str, Any]


class Lines:
    """How what happens becomes lines. Inherited from: compiled, a call through a protocol costs more."""

    __slots__ = ()

    def event(self, event: Event) -> bytes:
        """The line of an event."""
        raise NotImplementedError

    def access(  # noqa: PLR0917 - by position, as in Log.access
        self,
        wall: float,
        method: bytes,
        target: bytes,
        route: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        duration_ms: float,
        attempts: int,
        upstream_host: str,
        idempotency: str,
        breaker: str,
        reason: str,
        correlation_id: bytes,
        trace_id: bytes,
    ) -> bytes:
        """The line of a request: the time, then the arguments of :meth:`sidecar.log.Log.access`."""
        raise NotImplementedError


class Timestamps:
    """Writes times by RFC 3339, in UTC with milliseconds. Texts of the same second share their beginning."""

    __slots__ = ("_millisecond", "_prefix", "_second", "_text")

    def __init__(self) -> None:
        self._second = self._millisecond = -1
        self._prefix = self._text = ""

    def text(self, wall: float) -> str:
        """``wall`` (seconds since the Unix epoch) as ``2026-01-31T23:59:59.001Z``."""
        millisecond = int(wall * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._text = f"{self._prefix}.{rest:03d}Z"
        return self._text


def cut(text: str) -> str:
    """``text``, or its beginning and how much is missing."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more)"


def path_of(target: bytes) -> str:
    """The path of a request target. Queries are left out: people put secrets there."""
    return target.partition(b"?")[0].decode("latin-1")


def safe_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with every value turned into plain, bounded data without secrets."""
    return {name: MASK if value and is_secret(name) else safe_value(value) for name, value in fields.items()}


def safe_value(value: Any, depth: int = 0) -> Any:
    """``value`` as what JSON knows: text cut and masked, bytes and errors as text, nesting bounded."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[: MAX_TEXT + 1]).decode("utf-8", "backslashreplace")
    elif isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        head = list(value.items())[:_MAX_ITEMS]
        return {
            cut(str(name)): MASK if is_secret(str(name)) else safe_value(item, depth + 1)
            for name, item in head
        }
    elif depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [safe_value(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return mask_url(cut(str(value)))
