"""Idempotency records: which there are, and what becomes of those whose outcome nobody knows.

A record is shown without its key, its fingerprint and its response: none of them ever leaves the store here.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.admin.answers import json_answer, moment
from sidecar.admin.changes import describe_change
from sidecar.admin.reading import Members, query_of, read_object, whole_number
from sidecar.errors import BadRequest, BodyTooLarge, Conflict, NotFound, StoreUnavailable
from sidecar.idempotency.core import KEPT_BODY, RecordUnreadableError, State
from sidecar.idempotency.operator import LONGEST_PAGE, Operator, RecordBusyError, RecordNotFoundError
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from sidecar.admin.control import Control
    from sidecar.idempotency.record import Record

_RECORD_ID: Final = re.compile(r"[0-9a-f]{64}")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, section 5.6.2
_FIELD_VALUE: Final = re.compile(r"(?:[\x21-\x7e\x80-\xff](?:[\t -\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_RESOLUTION_LIMIT: Final = 6 * KEPT_BODY
"""Octets of a call that resolves: a body that may be kept, with each octet escaped by JSON."""

_MOST_HEADERS: Final = 100
_WITHOUT_BODY: Final = (204, 205, 304)
_PAGE: Final = 100


async def list_records(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/idempotency?state=&route=&cursor=&limit=``."""
    query = query_of(request, "state", "route", "cursor", "limit")
    limit = whole_number(query.get("limit", str(_PAGE)), "limit", 1, LONGEST_PAGE)
    with _refusals():
        try:
            page = await operator_of(control).page(
                state=_state(query.get("state")),
                route=query.get("route"),
                cursor=query.get("cursor"),
                limit=limit,
            )
        except ValueError as error:
            raise BadRequest(str(error)) from None
    return json_answer({"items": [describe(record) for record in page.items], "cursor": page.cursor})


async def show_record(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/idempotency/{id}``."""
    query_of(request)
    return await _shown(control, _id_in(request))


async def find_record(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/idempotency/find``: by route, key and the caller's headers. The key stays unsaid."""
    members = await read_object(request)
    route, key = members.take("route", str), members.take("key", str)
    headers = {
        name: _text(value, f"headers.{name}") for name, value in members.take("headers", dict, {}).items()
    }
    members.nothing_else()
    with _refusals():
        record = await operator_of(control).find(route, key.encode(errors="replace"), headers)
    return json_answer(describe(record))


async def release_record(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/idempotency/{id}/release``: the next request with the key executes."""
    members = await read_object(request)
    reason = members.reason()
    describe_change(request, why=reason)
    members.nothing_else()
    record_id = _id_in(request)
    with _refusals():
        await operator_of(control).release(record_id)
    return json_answer({"id": record_id, "released": True})


async def resolve_record(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/idempotency/{id}/resolve``: from now on the key is answered with this response."""
    members = await read_object(request, _RESOLUTION_LIMIT)
    status, reason = members.take("status", int), members.reason()
    describe_change(request, why=reason, resolved_as=status)
    headers, body = _response(members, status)
    members.nothing_else()
    record_id = _id_in(request)
    with _refusals():
        try:
            await operator_of(control).resolve(record_id, status=status, headers=headers, body=body)
        except ValueError as error:
            raise BadRequest(str(error)) from None
    return await _shown(control, record_id)


def operator_of(control: Control) -> Operator:
    """Who reads records and decides, by the routes in force."""
    policies = {plan.name: plan.policy for plan in control.pipeline.plans}
    return Operator(control.engine.store, policies)


def describe(record: Record) -> dict[str, Any]:
    """A record as JSON holds it; ``completed_at`` and ``unknown_since`` say when it left its state before."""
    completed = record.state is State.COMPLETED
    return {
        "id": record.id,
        "state": record.state.name,
        "route": record.route,
        "created_at": moment(record.created_at),
        "lease_until": moment(record.lease_until),
        "completed_at": moment(record.settled_at) if completed else None,
        "unknown_since": None if completed else moment(record.settled_at),
        "unknown_because": record.loss.value if record.loss is not None else None,
        "status": record.response.status if record.response is not None else None,
        "correlation_id": record.correlation_id,
    }


async def _shown(control: Control, record_id: str) -> web.Response:
    with _refusals():
        record = await operator_of(control).get(record_id)
    return json_answer(describe(record))


@contextmanager
def _refusals() -> Iterator[None]:
    """The operator's and the store's errors as answers."""
    try:
        yield
    except RecordNotFoundError as error:
        raise NotFound(str(error)) from None
    except RecordBusyError as error:
        raise Conflict(str(error)) from None
    except RecordUnreadableError as error:
        raise Conflict(f"the record cannot be read: {error}") from None
    except StoreError as error:
        raise StoreUnavailable(f"the idempotency store is unavailable: {error}", retry_after=1.0) from None


def _id_in(request: web.Request) -> str:
    record_id = request.match_info["id"]
    if _RECORD_ID.fullmatch(record_id) is None:
        raise NotFound("the id of a record is 64 hexadecimal digits")
    return record_id


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    try:
        return State[text.upper()]
    except KeyError:
        raise BadRequest(f"state is one of {', '.join(State.__members__)}, not {text[:40]!r}") from None


def _response(members: Members, status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The fields and the body of a resolution."""
    fields = members.take("headers", dict, {})
    content = members.take_any("body")
    headers = [pair for name, value in fields.items() for pair in _field_lines(name, value)]
    if len(headers) > _MOST_HEADERS:
        raise BadRequest(f"headers has {len(headers)} lines: at most {_MOST_HEADERS} are kept")
    if content is None:
        return headers, b""
    if status in _WITHOUT_BODY:
        raise BadRequest(f"a {status} has no body")
    if isinstance(content, str):
        body = content.encode(errors="replace")
    else:
        body = orjson.dumps(content)
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"Content-Type", b"application/json"))
    if len(body) > KEPT_BODY:
        raise BodyTooLarge(f"body has {len(body)} octets: at most {KEPT_BODY} are kept")
    return headers, body


def _field_lines(name: str, value: object) -> Iterator[tuple[bytes, bytes]]:
    """A header's lines; a list of strings makes several."""
    if _FIELD_NAME.fullmatch(name) is None:
        raise BadRequest(f"headers: {name[:40]!r} is no name of a header")
    for one in value if isinstance(value, list) else [value]:
        text = _text(one, f"headers.{name}")
        if _FIELD_VALUE.fullmatch(text) is None:
            raise BadRequest(f"headers.{name} holds what no header can")
        yield name.encode(), text.encode("latin-1")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{name[:60]} must be a string")
    return value
