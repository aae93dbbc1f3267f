"""Log lines for people at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.log.record import Lines, Timestamps, path_of, safe_fields

if TYPE_CHECKING:
    from sidecar.log.record import Event

_RESET: Final = "\x1b[0m"
_DIM: Final = "\x1b[2m"
_COLOURS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_SERVER_ERROR: Final = 500
_CLIENT_ERROR: Final = 400


class ConsoleLines(Lines):
    """Formats records as ``time LEVEL event name=value …``.

    Args:
        colours: Whether the reader is a terminal that shows them.
    """

    __slots__ = ("_colours", "_timestamps")

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._timestamps = Timestamps()

    def event(self, event: Event) -> bytes:
        """The line of an event; a traceback follows on lines of its own, indented."""
        fields = safe_fields(event.fields)
        traceback = fields.pop("traceback", None)
        line = self._line(event.time, event.level, _shown(event.name), fields)
        return line + _indented(traceback) if isinstance(traceback, str) else line

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
        """The line of a request: method, path, status and duration, then what else is known of it."""
        level = "error" if status >= _SERVER_ERROR else "warning" if status >= _CLIENT_ERROR else "info"
        verb = _shown(method.decode("latin-1"))
        summary = f"{verb} {_shown(path_of(target))} {status} {duration_ms:.1f}ms"
        code, _, cause = reason.partition(":")
        fields = {
            "route": route,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "attempts": attempts,
            "upstream_host": upstream_host,
            "idempotency": idempotency,
            "breaker": breaker,
            "reason": code,
            "cause": cause,
            "correlation_id": correlation_id.decode("latin-1"),
            "trace_id": trace_id.decode(),
        }
        told = {name: value for name, value in fields.items() if value != ""}
        return self._line(wall, "info", summary, told, colour=_COLOURS[level])

    def _line(
        self, wall: float, level: str, summary: str, fields: dict[str, Any], *, colour: str = ""
    ) -> bytes:
        clock = self._timestamps.text(wall)[11:23]
        pairs = " ".join(f"{_shown(name)}={_shown(_text(value))}" for name, value in fields.items())
        if self._colours:
            line = f"{_DIM}{clock}{_RESET} {colour or _COLOURS[level]}{level.upper():7} {summary}{_RESET}"
            line = f"{line} {_DIM}{pairs}{_RESET}"
        else:
            line = f"{clock} {level.upper():7} {summary} {pairs}"
        return f"{line.rstrip()}\n".encode("utf-8", "backslashreplace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _shown(text: str) -> str:
    """``text`` as it is if it is one printable word, else in quotes with everything else escaped."""
    if text.isprintable() and text and not any(mark in text for mark in ' "\\'):
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def _indented(traceback: str) -> bytes:
    lines = (
        "".join(_escaped(c) if not c.isprintable() else c for c in line) for line in traceback.splitlines()
    )
    return "".join(f"    {line}\n" for line in lines).encode("utf-8", "backslashreplace")
