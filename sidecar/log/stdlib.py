"""Brings what libraries say through :mod:`logging` into the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sidecar.log.writer import Log


_OF_A_REQUEST: Final = ("correlation_id", "trace_id")


class StdlibHandler(logging.Handler):
    """Turns a library's record into an event ``library`` with ``logger`` and ``message``.

    A record that is about a request or an event says so with ``extra``: ``correlation_id`` and ``trace_id``.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record over, if its level is wanted."""
        if not self._log.enabled(record.levelno):
            return
        try:
            fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        except (TypeError, ValueError):  # the library's arguments do not fit its own format
            fields = {"logger": record.name, "message": str(record.msg)}
        for name in _OF_A_REQUEST:
            if value := getattr(record, name, ""):
                fields[name] = value
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            self._log.record(_level(record.levelno), "library", fields)
        else:
            self._log.crash("library", error, **fields)


def capture_stdlib(log: Log) -> None:
    """Make ``log`` the only place where records of :mod:`logging` and :mod:`warnings` go."""
    root = logging.getLogger()
    root.handlers[:] = [StdlibHandler(log)]
    root.setLevel(logging.NOTSET)
    logging.captureWarnings(capture=True)


def _level(rank: int) -> str:
    if rank >= logging.ERROR:
        return "error"
    if rank >= logging.WARNING:
        return "warning"
    return "info" if rank >= logging.INFO else "debug"
