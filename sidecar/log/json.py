"""Log lines for machines: one JSON object a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.log.record import Timestamps, path_of, safe_fields

if TYPE_CHECKING:
    from sidecar.log.record import AccessRecord, Event

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE

# JSON escapes the C0 controls. These are legal in it as they are, but break lines for some readers (U+0085,
# U+2028, U+2029), start terminal sequences (C1) or turn the direction of text around.
_DELETE: Final = b"\x7f"
_RISKY: Final = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class JsonLines:
    """Formats records as JSON.

    Args:
        service: Value of the ``service`` member of every line.
    """

    __slots__ = ("_service", "_timestamps")

    def __init__(self, service: str) -> None:
        self._service = service
        self._timestamps = Timestamps()

    def event(self, event: Event) -> bytes:
        """The line of an event. A field that has the name of a fixed member gets an underscore behind it."""
        line: dict[str, Any] = {
            "time": self._timestamps.text(event.time),
            "level": event.level,
            "event": event.name,
            "service": self._service,
        }
        for name, value in safe_fields(event.fields).items():
            line[f"{name}_" if name in line else name] = value
        return _encode(line)

    def access(self, record: AccessRecord) -> bytes:
        """The line of a request; what does not apply to it is null."""
        (
            wall,
            method,
            target,
            route,
            status,
            bytes_in,
            bytes_out,
            duration_ms,
            attempts,
            upstream_host,
            idempotency,
            breaker,
            reason,
            correlation_id,
            trace_id,
        ) = record
        return _encode(
            {
                "time": self._timestamps.text(wall),
                "level": "info",
                "event": "access",
                "service": self._service,
                "correlation_id": correlation_id.decode("latin-1"),
                "trace_id": trace_id or None,
                "method": method.decode("latin-1"),
                "path": path_of(target),
                "route": route,
                "status": status,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "duration_ms": round(duration_ms, 3),
                "attempts": attempts,
                "upstream_host": upstream_host or None,
                "idempotency": idempotency or None,
                "breaker": breaker or None,
                "reason": reason or None,
            }
        )


def _encode(line: dict[str, Any]) -> bytes:
    try:
        text = orjson.dumps(line, option=_OPTIONS)
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 bits
        text = orjson.dumps(_replace_unencodable(line), option=_OPTIONS)
    return text if text.isascii() and _DELETE not in text else _escape(text)


def _replace_unencodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_replace_unencodable(name): _replace_unencodable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace_unencodable(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()


def _escape(text: bytes) -> bytes:
    return _RISKY.sub(lambda match: f"\\u{ord(match[0]):04x}", text.decode()).encode()
