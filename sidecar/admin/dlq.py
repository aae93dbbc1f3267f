"""Dead letters: what could not be delivered, and what becomes of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sidecar.admin.answers import json_answer, moment
from sidecar.admin.changes import describe_change
from sidecar.admin.reading import Members, query_of, read_object, whole_number
from sidecar.admin.streams import STREAMS, EventStream
from sidecar.dlq.codec import parse_timestamp, to_json
from sidecar.dlq.errors import (
    DeadLetterHeldError,
    DeadLetterNotFoundError,
    DeadLetterStoreError,
    DeadLetterUnreadableError,
    RedeliveryError,
)
from sidecar.dlq.operator import LONGEST_PAGE
from sidecar.dlq.record import check_event_type
from sidecar.dlq.store import Selection
from sidecar.errors import BadRequest, Conflict, DeadLettersUnavailable, NotFound, RedeliveryFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from aiohttp import web

    from sidecar.admin.control import Control
    from sidecar.dlq.operator import Operator, Outcome

_PAGE: Final = 100
_MOST_RETRIES: Final = 1_000_000
_MOST_FAILURES: Final = 100
_PAYLOAD_LIMIT: Final = 2 * 1024 * 1024
_EVENT_STREAM: Final = "text/event-stream"


async def list_queues(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/dlq``: every queue that has dead letters."""
    query_of(request)
    with _refusals():
        queues = await (await _operator(control)).queues()
    return json_answer(
        {
            "items": [
                {
                    "service": queue.name.service,
                    "event_type": queue.name.event_type,
                    "depth": queue.depth,
                    "oldest_at": moment(queue.oldest_at),
                }
                for queue in queues
            ]
        }
    )


async def list_records(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/dlq/{event_type}?service=&correlation_id=&since=&cursor=&limit=``: newest first."""
    query = query_of(request, "service", "correlation_id", "since", "cursor", "limit")
    limit = whole_number(query.get("limit", str(_PAGE)), "limit", 1, LONGEST_PAGE)
    with _refusals():
        page = await (await _operator(control)).page(
            _event_type(request),
            _selection(query),
            service=query.get("service"),
            limit=limit,
            cursor=query.get("cursor"),
        )
    items = [to_json(record) for record in page.items]
    return json_answer({"items": items, "cursor": None if page.next is None else str(page.next)})


async def show_record(request: web.Request, control: Control) -> web.Response:
    """``GET /admin/dlq/{event_type}/{id}``."""
    query = query_of(request, "service")
    with _refusals():
        record = await (await _operator(control)).get(
            _event_type(request), request.match_info["id"], service=query.get("service")
        )
    return json_answer(to_json(record))


async def retry_record(request: web.Request, control: Control) -> web.Response:
    """``POST /admin/dlq/{event_type}/{id}/retry``: delivered and removed, or kept."""
    query, members = query_of(request, "service"), await read_object(request)
    reason = members.reason()
    describe_change(request, why=reason)
    members.nothing_else()
    record_id = request.match_info["id"]
    with _refusals():
        await (await _operator(control)).retry(
            _event_type(request), record_id, by=request["who"], reason=reason, service=query.get("service")
        )
    return json_answer({"id": record_id, "delivered": True})


async def edit_record(request: web.Request, control: Control) -> web.Response:
    """``PUT /admin/dlq/{event_type}/{id}``: an edited copy takes its place, under a new idempotency key.

    The payload of an event is JSON. That of a request is its body: a string is taken as it is.
    """
    query, members = query_of(request, "service"), await read_object(request, _PAYLOAD_LIMIT)
    reason = members.reason()
    describe_change(request, why=reason)
    if not members.has("payload"):
        raise BadRequest("payload is missing: expected what shall be sent in its place")
    payload = members.take_any("payload")
    members.nothing_else()
    event_type, record_id, service = _event_type(request), request.match_info["id"], query.get("service")
    with _refusals():
        operator = await _operator(control)
        record = await operator.get(event_type, record_id, service=service)
        if record.request is not None and isinstance(payload, str):
            payload = payload.encode("utf-8", "replace")
        edited = await operator.edit(
            event_type, record_id, payload, by=request["who"], reason=reason, service=service
        )
    return json_answer(to_json(edited))


async def remove_record(request: web.Request, control: Control) -> web.Response:
    """``DELETE /admin/dlq/{event_type}/{id}?reason=``."""
    query = query_of(request, "service", "reason")
    reason = Members({"reason": query.get("reason")}).reason()
    describe_change(request, why=reason)
    record_id = request.match_info["id"]
    with _refusals():
        await (await _operator(control)).remove(_event_type(request), record_id, service=query.get("service"))
    return json_answer({"id": record_id, "removed": True})


async def retry_records(request: web.Request, control: Control) -> web.StreamResponse:
    """``POST /admin/dlq/{event_type}/retry``: many, the oldest first, one after another.

    The answer comes when all have been tried. A client that accepts ``text/event-stream`` is told of each one
    as it goes.
    """
    query, members = query_of(request, "service"), await read_object(request)
    reason, dry_run = members.reason(), members.take("dry_run", bool, False)
    limit = members.take("limit", int, _MOST_RETRIES)
    chosen = Members(members.take("filter", dict, {}))
    describe_change(request, why=reason, dry_run=dry_run)
    members.nothing_else()
    if not 1 <= limit <= _MOST_RETRIES:
        raise BadRequest(f"limit is a number from 1 to {_MOST_RETRIES}, not {limit}")
    selection = _selection(
        {name: value for name in ("correlation_id", "since") if (value := chosen.take(name, str, ""))}
    )
    service = query.get("service") or chosen.take("service", str, "") or None
    chosen.nothing_else()
    event_type = _event_type(request)
    with _refusals():
        operator = await _operator(control)
        tally = _Tally(min(limit, await operator.count(event_type, selection, service=service)))
        describe_change(request, why=reason, dry_run=dry_run, results=tally.results)
        outcomes = operator.retry_many(
            event_type,
            selection,
            by=request["who"],
            reason=reason,
            service=service,
            limit=limit,
            dry_run=dry_run,
        )
        if _EVENT_STREAM in request.headers.get("Accept", ""):
            return await _streamed(request, outcomes, tally)
        async for outcome in outcomes:
            tally.add(outcome)
    return json_answer(tally.members())


async def _streamed(
    request: web.Request, outcomes: AsyncIterator[Outcome], tally: _Tally
) -> web.StreamResponse:
    """One event a record, and a last one that sums up. The retry ends when the client goes away."""
    with request.app[STREAMS].place():
        stream = EventStream(request)
        await stream.begin()
        try:
            async for outcome in outcomes:
                tally.add(outcome)
                await stream.send({**_members(outcome), "tried": tally.tried, "total": tally.total})
        except DeadLetterStoreError as error:
            tally.stopped = str(error)
        await stream.send(tally.members(), event="end")
    return stream.response


class _Tally:
    """What came of a retry of many.

    Attributes:
        total: Records that are to be tried.
        tried: Records so far.
        results: How many had which result.
        stopped: Why the rest was left alone, or empty.
    """

    def __init__(self, total: int) -> None:
        self.tried = 0
        self.stopped = ""
        self.total = total
        self.results: dict[str, int] = {}
        self._failures: list[dict[str, str]] = []

    def add(self, outcome: Outcome) -> None:
        self.tried += 1
        self.results[outcome.result] = self.results.get(outcome.result, 0) + 1
        if outcome.error and len(self._failures) < _MOST_FAILURES:
            self._failures.append(_members(outcome))
        if outcome.last:
            self.stopped = outcome.error

    def members(self) -> dict[str, Any]:
        """As JSON members; of failures the first hundred."""
        return {
            "total": self.total,
            "tried": self.tried,
            **self.results,
            "failures": self._failures,
            "stopped": self.stopped or None,
        }


def _members(outcome: Outcome) -> dict[str, str]:
    members = {"id": outcome.record_id, "result": outcome.result}
    return {**members, "error": outcome.error} if outcome.error else members


async def _operator(control: Control) -> Operator:
    return (await control.events.engine()).operator


def _event_type(request: web.Request) -> str:
    try:
        return check_event_type(request.match_info["event_type"])
    except ValueError as error:
        raise BadRequest(str(error)) from None


def _selection(query: Mapping[str, str]) -> Selection:
    since = query.get("since")
    try:
        moment = None if since is None else parse_timestamp(since)
    except ValueError:
        raise BadRequest(f"since is a time such as 2024-01-31T12:00:00Z, not {since!r}") from None
    return Selection(correlation_id=query.get("correlation_id"), since=moment)


@contextmanager
def _refusals() -> Iterator[None]:
    """The operator's and the store's errors as answers."""
    try:
        yield
    except DeadLetterNotFoundError as error:
        raise NotFound(str(error)) from None
    except (DeadLetterHeldError, DeadLetterUnreadableError) as error:
        raise Conflict(str(error)) from None
    except RedeliveryError as error:
        details = {} if error.status is None else {"status": error.status}
        raise RedeliveryFailed(error.message, details={**details}) from None
    except DeadLetterStoreError as error:
        raise DeadLettersUnavailable(str(error), retry_after=1.0) from None
    except ValueError as error:
        raise BadRequest(str(error)) from None
