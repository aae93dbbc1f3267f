"""How a request and its response become a row: checked when the configuration is loaded, then applied.

What the request tells is filled in before it is forwarded, so that a row stands ready whatever happens
afterwards; the response completes it. Where only the response could have told a value and there is none, or
an error answer does not have it, a stand-in takes its place:

=================  ==========================  ==================================
column             takes                       stand-in
=================  ==========================  ==================================
request_id         a UUID                      the nil UUID
change_type        a text of 1-50 characters   what the method says
changed_by_id      a UUID                      the nil UUID
changed_by_type    a text of 1-20 characters   ``UNKNOWN``
new_value          any JSON                    JSON ``null``
previous_value     any JSON                    NULL
=================  ==========================  ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sidecar.audit.columns import CHANGE_TYPE_LENGTH, CHANGED_BY_TYPE_LENGTH, as_document, as_text, as_uuid
from sidecar.audit.pointer import Pointer, parse_pointer
from sidecar.audit.record import NIL_UUID, OK, UNKNOWN, AuditRow
from sidecar.audit.sources import (
    Constant,
    InBody,
    Message,
    PathParameter,
    Rejected,
    Source,
    is_from_response,
    parse_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sidecar.settings.model import Audit

_CHANGE_TYPES: Final = {"POST": "CREATED", "PUT": "UPDATED", "PATCH": "UPDATED", "DELETE": "DELETED"}
_SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})  # RFC 9110, section 9.2.1


@dataclass(slots=True, frozen=True)
class _Column:
    """A column, where its value comes from, and what it must be."""

    name: str
    source: Source
    convert: Callable[[Any], str]


class RowMapping:
    """A route's ``audit`` section, ready to make rows. Its methods keep nothing and can run in any thread.

    Attributes:
        reads_request: Whether it needs the request's body.
        reads_response: Whether it needs the response's body.
        unaudited_methods: Methods that make no row: the safe ones, unless a ``change_type`` is given.

    Raises:
        ValueError: A JSON pointer is none. :func:`mistakes` finds everything else too.
    """

    __slots__ = (
        "_from_request",
        "_from_response",
        "_previous",
        "reads_request",
        "reads_response",
        "unaudited_methods",
    )

    def __init__(self, settings: Audit) -> None:
        redact = tuple(map(parse_pointer, settings.redact))
        columns = tuple(_columns(settings, redact))
        self._from_request = tuple(column for column in columns if not is_from_response(column.source))
        self._from_response = tuple(column for column in columns if is_from_response(column.source))
        whole = InBody(of_response=True, pointer=())
        self._previous = (_Column("previous_value", whole, partial(as_document, redact=redact)),)
        self.reads_request = any(isinstance(column.source, InBody) for column in self._from_request)
        self.reads_response = bool(self._from_response)
        self.unaudited_methods = _SAFE_METHODS if settings.change_type is None else frozenset[bytes]()

    def begin(self, request: Message, row: AuditRow, previous: Message | None) -> None:
        """Fill into a :func:`blank_row` what the request tells.

        Args:
            request: The request.
            row: The row.
            previous: What a GET said before the change, when ``previous: get`` asks for it and something
                was there.

        Raises:
            Rejected: A value is missing or does not fit; the others are filled in.
        """
        _fill(row, self._from_request, request)
        if previous is not None:
            _fill(row, self._previous, previous)

    def complete(self, row: AuditRow, response: Message, outcome: str) -> None:
        """Fill in what the response tells, and the outcome.

        Raises:
            Rejected: A value of a response that says the change was made is missing or does not fit.
        """
        row.outcome = outcome
        if outcome == UNKNOWN:
            return
        try:
            _fill(row, self._from_response, response)
        except Rejected:
            if outcome == OK:
                raise


def blank_row(*, row_id: str, method: str, correlation_id: str | None, created_at: int) -> AuditRow:
    """A row of stand-ins with an unknown outcome.

    Args:
        row_id: A fresh UUID.
        method: The request's method.
        correlation_id: The request's correlation id, at most 100 characters.
        created_at: Microseconds since the Unix epoch.
    """
    return AuditRow(
        id=row_id,
        request_id=NIL_UUID,
        change_type=_CHANGE_TYPES.get(method, method[:CHANGE_TYPE_LENGTH]),
        previous_value=None,
        new_value="null",
        changed_by_id=NIL_UUID,
        changed_by_type="UNKNOWN",
        correlation_id=correlation_id,
        created_at=created_at,
        outcome=UNKNOWN,
    )


def mistakes(
    settings: Audit, path_names: Collection[str] | None
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a route's ``audit`` section: where in it, and what, for whoever loads it.

    Args:
        settings: The section.
        path_names: Names of the ``{name}`` segments in the route's path; ``None`` where the path is a mistake
            itself, so that nobody knows them.
    """
    for number, text in enumerate(settings.redact):
        if not text:
            yield ("redact", number), "'' would redact the whole state: name the members to hide"
    for name, text, convert in _given(settings, ()):
        if problem := _mistake(text, convert, path_names):
            yield (name,), problem


def _mistake(text: str, convert: Callable[[Any], str], path_names: Collection[str] | None) -> str:
    try:
        source = parse_source(text)
    except ValueError as error:
        return str(error)
    if isinstance(source, PathParameter) and path_names is not None and source.name not in path_names:
        known = ", ".join(f"{{{name}}}" for name in sorted(path_names)) or "none"
        return f"the route's path has no {{{source.name}}} (it has {known})"
    if isinstance(source, Constant):
        try:
            convert(source.text)
        except Rejected as rejected:
            return str(rejected)
    return ""


def _given(settings: Audit, redact: tuple[Pointer, ...]) -> Iterator[tuple[str, str, Callable[[Any], str]]]:
    """Name, configured source and conversion of each column that the section gives."""
    document = partial(as_document, redact=redact)
    yield "request_id", settings.request_id, as_uuid
    yield "changed_by_id", settings.changed_by_id, as_uuid
    yield "changed_by_type", settings.changed_by_type, partial(as_text, limit=CHANGED_BY_TYPE_LENGTH)
    yield "new_value", settings.new_value, document
    if settings.change_type is not None:
        yield "change_type", settings.change_type, partial(as_text, limit=CHANGE_TYPE_LENGTH)
    if settings.previous_value is not None:
        yield "previous_value", settings.previous_value, document


def _columns(settings: Audit, redact: tuple[Pointer, ...]) -> Iterator[_Column]:
    for name, text, convert in _given(settings, redact):
        yield _Column(name, parse_source(text), convert)


def _fill(row: AuditRow, columns: tuple[_Column, ...], message: Message) -> None:
    """Fill each column that can be filled, then raise what was wrong with the first that could not."""
    first: Rejected | None = None
    for column in columns:
        try:
            setattr(row, column.name, column.convert(column.source.read(message)))
        except Rejected as rejected:
            rejected.field = column.name
            first = first or rejected
    if first is not None:
        raise first
