"""Loggers for Python services: structlog in front, the sidecar's own writer behind."""

from __future__ import annotations

import atexit
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

from sidecar.correlation import current_correlation_id
from sidecar.log.record import MAX_TEXT
from sidecar.log.writer import Log

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_CLOSE_SECONDS: Final = 2.0


def create_logger(
    service_name: str,
    *,
    level: str = "info",
    style: Literal["json", "console"] = "json",
    fd: int = 1,
) -> structlog.typing.FilteringBoundLogger:
    """A structlog logger whose lines are those of the sidecar: the same members, as safe, never blocking.

    Within a :class:`~sidecar.correlation.middleware.CorrelationMiddleware` lines carry the request's
    ``correlation_id``, within an OpenTelemetry span its ``trace_id`` and ``span_id``.

    Args:
        service_name: The ``service`` of every line.
        level: Least level that is written: ``debug``, ``info``, ``warning`` or ``error``.
        style: ``json`` for machines, ``console`` for people.
        fd: Where lines go; standard output.

    Raises:
        ValueError: ``level`` is unknown.
    """
    log = Log(service=service_name, level=level, style=style, fd=fd)
    atexit.register(log.close, _CLOSE_SECONDS)
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        _Sink(log),
        processors=[structlog.contextvars.merge_contextvars, _add_ids, _add_error, _to_arguments],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return logger


class _Sink:
    """What structlog takes for the logger that it wraps."""

    def __init__(self, log: Log) -> None:
        self.debug = log.debug
        self.info = log.info
        self.warning = log.warning
        self.error = self.critical = log.error


def _add_ids(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if correlation_id := current_correlation_id():
        fields.setdefault("correlation_id", correlation_id)
    api = sys.modules.get("opentelemetry.trace")  # without it there can be no span
    context = api.get_current_span().get_span_context() if api else None
    if context is not None and context.is_valid:
        fields.setdefault("trace_id", f"{context.trace_id:032x}")
        fields.setdefault("span_id", f"{context.span_id:016x}")
    return fields


def _add_error(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """``exc_info=True``, or an error, as ``error`` and ``traceback``."""
    given = fields.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        fields["error"] = error
        fields["traceback"] = "".join(traceback.format_exception(error))[-MAX_TEXT:]
    return fields


def _to_arguments(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[str], MutableMapping[str, Any]]:
    """The last processor's result is what the sink's method is called with."""
    return (str(fields.pop("event")),), fields
