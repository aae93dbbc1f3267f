"""Log lines for machines: one JSON object a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.digits import THOUSANDTHS, decimal
from sidecar.log.record import Lines, Timestamps, safe_fields
from sidecar.methods import KNOWN_METHODS

if TYPE_CHECKING:
    from sidecar.log.record import Event

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE

# JSON escapes the C0 controls. These are legal in it as they are, but break lines for some readers (U+0085,
# U+2028, U+2029), start terminal sequences (C1) or turn the direction of text around.
_DELETE: Final = b"\x7f"
_QUESTION_MARK: Final = 0x3F
_RISKY: Final = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


class JsonLines(Lines):
    """Formats records as JSON.

    Args:
        service: Value of the ``service`` member of every line.
    """

    __slots__ = (
        "_breaker",
        "_circumstances",
        "_end",
        "_head",
        "_head_of",
        "_head_rest",
        "_idempotency",
        "_reason",
        "_route",
        "_service",
        "_timestamps",
        "_upstream_host",
    )

    def __init__(self, service: str) -> None:
        self._service = service
        self._timestamps = Timestamps()
        self._head = b""
        self._head_of = -1
        self._head_rest = b'","level":"info","event":"access","service":%b,"correlation_id":"' % (
            _encode_value(service)
        )
        self._circumstances: dict[tuple[str, str, str, str, str], bytes] = {}
        # Those of the last line, which are mostly those of the next: the very same objects, as a rule.
        self._route = self._upstream_host = self._idempotency = self._breaker = self._reason = ""
        self._end = self._write_circumstances(("", "", "", "", ""))

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

    def access(  # noqa: PLR0917 - as in Lines
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
        """The line of a request; what does not apply to it is null."""
        millisecond = int(wall * 1000)
        if millisecond != self._head_of:
            self._head_of = millisecond
            self._head = b'{"time":"%b%b' % (self._timestamps.text(wall).encode(), self._head_rest)
        if (
            route is not self._route
            or upstream_host is not self._upstream_host
            or breaker is not self._breaker
            or idempotency is not self._idempotency
            or reason is not self._reason
        ):
            self._turn_to(route, upstream_host, idempotency, breaker, reason)
        path = target.partition(b"?")[0] if _QUESTION_MARK in target else target
        microseconds = int(duration_ms * 1000 + 0.5)
        return (
            b'%b%b","trace_id":%b,"method":%b,"path":%b,"status":%b,"bytes_in":%b,"bytes_out":%b,'
            b'"duration_ms":%b.%b,"attempts":%b%b'
        ) % (
            self._head,
            correlation_id,
            b'"%b"' % trace_id if trace_id else b"null",
            _METHODS.get(method) or _quoted(method),
            _quoted(path),
            decimal(status),
            decimal(bytes_in),
            decimal(bytes_out),
            decimal(microseconds // 1000),
            THOUSANDTHS[microseconds % 1000],
            decimal(attempts),
            self._end,
        )

    def _turn_to(self, route: str, upstream_host: str, idempotency: str, breaker: str, reason: str) -> None:
        """Have the end of a line at hand that tells of these circumstances."""
        circumstances = (route, upstream_host, idempotency, breaker, reason)
        end = self._circumstances.get(circumstances)
        self._end = self._write_circumstances(circumstances) if end is None else end
        self._route = route
        self._upstream_host = upstream_host
        self._idempotency = idempotency
        self._breaker = breaker
        self._reason = reason

    def _write_circumstances(self, circumstances: tuple[str, str, str, str, str]) -> bytes:
        """The members whose values are words of a bounded set, ready for the end of a line."""
        route, upstream_host, idempotency, breaker, reason = circumstances
        code, _, cause = reason.partition(":")
        text = _END % (
            _text(route),
            _text(upstream_host),
            _text(idempotency),
            _text(breaker),
            _text(code),
            _text(cause),
        )
        if len(self._circumstances) >= _REMEMBERED_CIRCUMSTANCES:
            self._circumstances.clear()
        self._circumstances[circumstances] = text
        return text


# Almost every value of an access line is a bounded word, or text that the grammar of HTTP has been through:
# written straight into a template, the line costs a quarter of what a dictionary and its encoding do.
_END: Final = b',"route":%b,"upstream_host":%b,"idempotency":%b,"breaker":%b,"reason":%b,"cause":%b}\n'
_REMEMBERED_CIRCUMSTANCES: Final = 1024
_METHODS: Final = {method: b'"%b"' % method for method in KNOWN_METHODS}
_QUOTED: Final[dict[bytes, bytes]] = {}
_REMEMBERED: Final = 1024
_REMEMBERED_LENGTH: Final = 100
_PLAIN: Final = re.compile(rb"[ !#-\[\]-~]*")


def _text(value: str) -> bytes:
    """One of a bounded set of words as JSON; nothing is null."""
    return _encode_value(value) if value else b"null"


def _quoted(value: bytes) -> bytes:
    """What a client wrote, as JSON. Short texts, which come again and again, are remembered."""
    quoted = _QUOTED.get(value)
    if quoted is None:
        plain = _PLAIN.fullmatch(value) is not None
        quoted = b'"%b"' % value if plain else _encode_value(value.decode("latin-1"))
        if len(value) <= _REMEMBERED_LENGTH:
            if len(_QUOTED) >= _REMEMBERED:
                _QUOTED.clear()
            _QUOTED[value] = quoted
    return quoted


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
