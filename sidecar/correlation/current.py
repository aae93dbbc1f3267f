"""The correlation id of the request that the running code serves, for code that is not handed one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

CORRELATION_ID: Final[ContextVar[str]] = ContextVar("sidecar_correlation_id", default="")


def current_correlation_id() -> str:
    """The id of the request being served, or an empty text outside of any."""
    return CORRELATION_ID.get()
