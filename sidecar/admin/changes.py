"""Every change that an operator makes, or tries to make, leaves one log line: who, what, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sidecar.admin.answers import correlation_of
from sidecar.admin.security import peer_of

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.log import Log

_DETAILS: Final = "change"
_REFUSED: Final = 400


def describe_change(request: web.Request, *, why: str, **details: Any) -> None:
    """Say more of the change that ``request`` asks for; a handler does so once it has read the body.

    Args:
        request: The call.
        why: The operator's reason, possibly empty.
        details: Further fields of the log line. No key, no body, no secret.
    """
    request[_DETAILS] = {"why": why, **details}


def tell_change(log: Log, request: web.Request, status: int) -> None:
    """Log the change; one that was refused is logged too, with the status of the answer."""
    log.warning(
        "admin change" if status < _REFUSED else "admin change refused",
        who=request["who"],
        peer=peer_of(request),
        what=f"{request.method} {request.path}",
        status=status,
        correlation_id=correlation_of(request),
        **request.get(_DETAILS, {"why": ""}),
    )
