"""Where the value of a column comes from: a constant, the request's head, or a place in a body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from sidecar.audit import jsontext
from sidecar.audit.body import EncodingError, TooLargeError, decode_body
from sidecar.audit.pointer import Pointer, find, parse_pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Rejected(Exception):  # noqa: N818 - a fact about the exchange
    """A value is missing or does not fit its column.

    Attributes:
        reason: ``header_missing``, ``body_not_captured``, ``encoding_unknown``, ``not_json``,
            ``pointer_not_found``, ``not_a_uuid``, ``not_text``, ``too_long`` or ``not_storable``.
        field: The column, once it is known.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = ""


def _no_header(_name: bytes) -> None:
    return None


class Message:
    """A request or response as far as the audit trail needs it.

    Args:
        body: What was captured; ``None`` when it was longer than is kept, or was cut off.
        coding: Its ``Content-Encoding``.
        header: Value of a field by its lower-case name; ``None`` for one that was not sent.
        path: The route's path parameters, percent-encoded as they came.
    """

    def __init__(
        self,
        body: bytes | None = None,
        coding: bytes | None = None,
        header: Callable[[bytes], bytes | None] = _no_header,
        path: Mapping[str, bytes] | None = None,
    ) -> None:
        self.body = body
        self.coding = coding
        self.header = header
        self.path = path or {}

    @cached_property
    def document(self) -> Any:
        """The body, decoded; an empty one, as of a 204, is ``null``.

        Raises:
            Rejected: It was not captured, or is no JSON.
        """
        if self.body is None:
            raise Rejected(
                "body_not_captured", "the body is longer than the audit trail keeps, or was cut off"
            )
        try:
            plain = decode_body(self.body, self.coding)
            return jsontext.loads(plain) if plain else None
        except EncodingError as error:
            raise Rejected("encoding_unknown", str(error)) from error
        except TooLargeError as error:
            raise Rejected("body_not_captured", str(error)) from error
        except jsontext.NotJsonError as error:
            raise Rejected("not_json", f"the body is not JSON: {error}") from error


@dataclass(slots=True, frozen=True)
class Constant:
    """The same text in every row."""

    text: str

    def read(self, _message: Message) -> Any:
        """The text."""
        return self.text


@dataclass(slots=True, frozen=True)
class Header:
    """A field of the request, by its lower-case name."""

    name: bytes

    def read(self, message: Message) -> Any:
        """The field's value."""
        value = message.header(self.name)
        if value is None:
            raise Rejected("header_missing", f"the request has no {self.name.decode()} field")
        return _text(value)


@dataclass(slots=True, frozen=True)
class PathParameter:
    """A ``{name}`` of the route's path."""

    name: str

    def read(self, message: Message) -> Any:
        """The segment, decoded."""
        return _text(unquote_to_bytes(message.path.get(self.name, b"")))


@dataclass(slots=True, frozen=True)
class InBody:
    """A place in the request's or the response's body."""

    of_response: bool
    pointer: Pointer

    def read(self, message: Message) -> Any:
        """What stands there."""
        try:
            return find(message.document, self.pointer)
        except KeyError as error:
            side = "response" if self.of_response else "request"
            place = "".join(f"/{token}" for token in self.pointer)
            raise Rejected("pointer_not_found", f"the {side} has nothing at {place}: no {error}") from None


Source = Constant | Header | PathParameter | InBody


def parse_source(text: str) -> Source:
    """What a configured source means.

    Raises:
        ValueError: What follows ``request:`` or ``response:`` is no JSON pointer.
    """
    kind, _, rest = text.partition(":")
    if kind == "header":
        return Header(rest.lower().encode())
    if kind == "path":
        return PathParameter(rest)
    if kind in {"request", "response"}:
        return InBody(of_response=kind == "response", pointer=parse_pointer(rest))
    return Constant(text)


def is_from_response(source: Source) -> bool:
    """Whether only the response can tell the value."""
    return isinstance(source, InBody) and source.of_response


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Rejected("not_text", "the value is not UTF-8") from error
