"""Reads what a call brings along: members of a JSON body, parameters of a query. Nothing is ignored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
from aiohttp import web

from sidecar.errors import BadRequest, BodyTooLarge, MediaTypeNotSupported, RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

SMALL: Final = 64 * 1024
"""Octets of a body that says what to do."""

LONGEST_REASON: Final = 500
"""Characters of a reason."""

_BODY_SECONDS: Final = 10.0
_REQUIRED: Final = object()
_NAMES: Final = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object"}


async def read_body(request: web.Request, limit: int = SMALL) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: It has more than ``limit`` octets.
        RequestTimeout: It takes more than 10 seconds to come.
        BadRequest: Its framing is broken.
        MediaTypeNotSupported: It is compressed: what it would become has no bound.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise MediaTypeNotSupported("send the body as it is, without Content-Encoding")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > limit:
                    raise BodyTooLarge(f"the body has more than {limit} octets")
                pieces.append(piece)
    except web.RequestPayloadError:
        raise BadRequest("the body is not framed as RFC 9112 says") from None
    except TimeoutError:
        raise RequestTimeout(f"the body did not come within {_BODY_SECONDS:.0f} s") from None
    return b"".join(pieces)


async def read_object(request: web.Request, limit: int = SMALL) -> Members:
    """The members of the JSON object in the body; none where there is no body.

    Raises:
        BadRequest: The body is no JSON object.
        BodyTooLarge, RequestTimeout: As :func:`read_body`.
    """
    body = await read_body(request, limit)
    try:
        content = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadRequest("the body must be a JSON object")
    return Members(content)


class Members:
    """The members of an object, taken one by one; what is left over at the end is a mistake."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._rest = content

    def take(self, name: str, kind: type[T], default: Any = _REQUIRED) -> T:
        """A member of a given kind; null counts as absent.

        Raises:
            BadRequest: It is missing and has no default, or of another kind.
        """
        value = self._rest.pop(name, None)
        if value is None:
            if default is _REQUIRED:
                raise BadRequest(f"{name} is missing: expected {_NAMES[kind]}")
            return default  # type: ignore[no-any-return]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise BadRequest(f"{name} must be {_NAMES[kind]}")
        return value

    def has(self, name: str) -> bool:
        """Whether there is a member of this name, be it null."""
        return name in self._rest

    def take_any(self, name: str) -> Any:
        """A member of any kind, or ``None``."""
        return self._rest.pop(name, None)

    def reason(self) -> str:
        """Why somebody asks for a change: at most 500 characters, empty where nothing is said."""
        text: str = self.take("reason", str, "")
        if len(text) > LONGEST_REASON:
            raise BadRequest(f"reason has at most {LONGEST_REASON} characters, this one has {len(text)}")
        return text.strip()

    def nothing_else(self) -> None:
        """Every member has been taken.

        Raises:
            BadRequest: There are more.
        """
        if self._rest:
            raise BadRequest(f"unknown members: {', '.join(sorted(self._rest))[:200]}")


def query_of(request: web.Request, *known: str) -> Mapping[str, str]:
    """The query's parameters; one that is empty counts as absent.

    Raises:
        BadRequest: One is not ``known``, or stands twice.
    """
    query = request.query
    for name in query:
        if name not in known:
            raise BadRequest(f"unknown parameter {name[:40]!r}: there is {', '.join(known) or 'none'}")
        if len(query.getall(name)) > 1:
            raise BadRequest(f"{name} is given more than once")
    return {name: value for name, value in query.items() if value}


def whole_number(text: str, name: str, low: int, high: int) -> int:
    """``text`` as a number from ``low`` to ``high``.

    Raises:
        BadRequest: It is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise BadRequest(f"{name} is a number from {low} to {high}, not {text[:40]!r}")
    return int(text)
