"""The types of an ASGI application: https://asgi.readthedocs.io/en/latest/specs/main.html."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """The values of a field of the request, one per line; ``name`` in lower case."""
    return [value for field, value in scope["headers"] if field.lower() == name]


def route_of(scope: Scope) -> str:
    """The template of the route that a framework has matched, as Starlette and FastAPI leave it, or empty."""
    path = getattr(scope.get("route"), "path", "")
    return path if isinstance(path, str) else ""
