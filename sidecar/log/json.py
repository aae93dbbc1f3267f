"""Log lines for machines: one JSON object a line."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.log.record import Timestamps, safe_fields

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

    __slots__ = ("_access", "_service", "_timestamps")

    def __init__(self, service: str) -> None:
        self._service = service
        self._access = _ACCESS % _encode_value(service).replace(b"%", b"%%")
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
        path = target.partition(b"?")[0]
        code, _, cause = reason.partition(":")
        return self._access % (
            self._timestamps.text(wall).encode(),
            correlation_id,
            b'"%b"' % trace_id.encode() if trace_id else b"null",
            _quoted(method),
            _quoted(path),
            _text(route),
            status,
            bytes_in,
            bytes_out,
            duration_ms,
            attempts,
            _text(upstream_host),
            _text(idempotency),
            _text(breaker),
            _text(code),
            _text(cause),
        )


# Almost every value of an access line is a bounded word, or text that the grammar of HTTP has been through:
# written straight into a template, the line costs half of what a dictionary and its encoding do.
_ACCESS: Final = (
    b'{"time":"%%b","level":"info","event":"access","service":%b,"correlation_id":"%%b","trace_id":%%b,'
    b'"method":%%b,"path":%%b,"route":%%b,"status":%%d,"bytes_in":%%d,"bytes_out":%%d,"duration_ms":%%.3f,'
    b'"attempts":%%d,"upstream_host":%%b,"idempotency":%%b,"breaker":%%b,"reason":%%b,"cause":%%b}\n'
)
_PLAIN: Final = re.compile(rb"[ !#-\[\]-~]*")


@lru_cache(maxsize=1024)
def _text(value: str) -> bytes:
    """One of a bounded set of words as JSON; nothing is null."""
    return _encode_value(value) if value else b"null"


def _quoted(value: bytes) -> bytes:
    """What a client wrote, as JSON."""
    if _PLAIN.fullmatch(value):
        return b'"%b"' % value
    return _encode_value(value.decode("latin-1"))


def _encode_value(value: str) -> bytes:
    text = orjson.dumps(value)
    return text if text.isascii() and _DELETE not in text else _escape(text)


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
