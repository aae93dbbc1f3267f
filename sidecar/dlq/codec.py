"""Records as JSON: what stands in the store, and what the admin API shows.

The payload stands there as JSON, for people and their ``redis-cli``. Its exact bytes stand beside it, in
``data``, wherever writing the payload anew would not give them again: receivers compare bytes, not values.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import orjson

from sidecar.dlq.errors import DeadLetterUnreadableError
from sidecar.dlq.record import (
    VERSION,
    Attempt,
    Edit,
    HttpRequest,
    Origin,
    OriginKind,
    Record,
)
from sidecar.dlq.store import micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(record: Record) -> bytes:
    """The record as it is stored."""
    return orjson.dumps(to_json(record))


def decode(value: bytes, *, record_id: str, event_type: str) -> Record:
    """Read a stored value.

    A value of a newer version, or one that is no record at all, becomes a record with status ``unreadable``
    that carries the value as its ``data``: people can see and remove it, nothing else is done to it.
    """
    try:
        return _from_json(orjson.loads(value))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _unreadable(value, record_id, event_type, f"{type(error).__name__}: {error}")


def require_readable(record: Record) -> Record:
    """The record itself.

    Raises:
        DeadLetterUnreadableError: This version cannot read it.
    """
    if record.status == "unreadable":
        raise DeadLetterUnreadableError(f"dead letter {record.id} cannot be read: {record.error}")
    return record


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON members; those that say nothing are left out."""
    members = {
        "v": VERSION,
        "id": record.id,
        "event_type": record.event_type,
        "status": record.status,
        "error": record.error,
        "reason": record.reason,
        "source_service": record.source_service,
        "correlation_id": record.correlation_id,
        "trace_id": record.trace_id,
        "idempotency_key": record.idempotency_key,
        "first_failed_at": timestamp(record.first_failed_at),
        "last_failed_at": timestamp(record.last_failed_at),
        "stored_at": timestamp(record.stored_at),
        "replay_count": record.replay_count,
        "origin": _origin_members(record.origin),
        "attempts": [attempt_members(attempt) for attempt in record.attempts],
    }
    if record.edits:
        members["edits"] = [_edit_members(edit) for edit in record.edits]
    if record.event:
        members["event"] = dict(record.event)
    if record.request is not None:
        members["request"] = _request_members(record.request)
    if record.data is not None:
        members |= _payload_members(record.data)
    return members


def timestamp(seconds: float) -> str:
    """Seconds since the Unix epoch as RFC 3339 in UTC, to the microsecond."""
    moment = _EPOCH + timedelta(microseconds=micros(seconds))  # rounded as the order of records is
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_timestamp(text: str) -> float:
    """Seconds since the Unix epoch of an RFC 3339 time; without an offset it is UTC.

    Raises:
        ValueError: It is no such time.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def attempt_members(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON members."""
    members: dict[str, Any] = {"at": timestamp(attempt.at), "error": attempt.error, "status": attempt.status}
    if attempt.duration is not None:
        members["duration_ms"] = round(attempt.duration * 1000, 3)
    if not attempt.spent:
        members["spent"] = False
    if attempt.by:
        members |= {"by": attempt.by, "reason": attempt.reason}
    return members


def attempt_from(members: dict[str, Any]) -> Attempt:
    """An attempt from its JSON members.

    Raises:
        ValueError, KeyError, TypeError: They are not those of an attempt.
    """
    duration = members.get("duration_ms")
    return Attempt(
        at=parse_timestamp(members["at"]),
        error=members["error"],
        status=members["status"],
        duration=None if duration is None else duration / 1000,
        spent=members.get("spent", True),
        by=members.get("by", ""),
        reason=members.get("reason", ""),
    )


def _from_json(members: dict[str, Any]) -> Record:
    if members["v"] != VERSION:
        raise ValueError(f"written in format {members['v']}; this version reads format {VERSION}")
    request = members.get("request")
    return Record(
        id=members["id"],
        event_type=members["event_type"],
        status="pending",
        error=members["error"],
        reason=members["reason"],
        source_service=members["source_service"],
        correlation_id=members["correlation_id"],
        trace_id=members["trace_id"],
        idempotency_key=members["idempotency_key"],
        first_failed_at=parse_timestamp(members["first_failed_at"]),
        last_failed_at=parse_timestamp(members["last_failed_at"]),
        stored_at=parse_timestamp(members["stored_at"]),
        replay_count=members["replay_count"],
        origin=_origin(members["origin"]),
        attempts=tuple(attempt_from(attempt) for attempt in members["attempts"]),
        edits=tuple(_edit(edit) for edit in members.get("edits", ())),
        event=members.get("event", {}),
        request=None if request is None else _request(request),
        data=_payload_bytes(members),
    )


def _unreadable(value: bytes, record_id: str, event_type: str, problem: str) -> Record:
    return Record(
        id=record_id,
        event_type=event_type,
        status="unreadable",
        origin=Origin(kind="library"),
        data=value,
        event={},
        error=problem,
        reason="unreadable",
        first_failed_at=0.0,
        last_failed_at=0.0,
        stored_at=0.0,
    )


def _payload_members(data: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"payload": None, **_bytes_members("data", data)}
    if orjson.dumps(payload) == data:
        return {"payload": payload}
    return {"payload": payload, **_bytes_members("data", data)}


def _payload_bytes(members: dict[str, Any]) -> bytes | None:
    exact = _bytes_from("data", members)
    if exact is not None or "payload" not in members:
        return exact
    return orjson.dumps(members["payload"])


def _bytes_members(name: str, value: bytes) -> dict[str, str]:
    """Text where the bytes are text, else Base64 under a name that says so."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _bytes_from(name: str, members: dict[str, Any]) -> bytes | None:
    if name in members:
        return cast("str", members[name]).encode()
    encoded = members.get(f"{name}_base64")
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name}_base64 is not Base64") from error


def _request_members(request: HttpRequest) -> dict[str, Any]:
    headers = [list(header) for header in request.headers]
    return {
        "method": request.method,
        "target": request.target,
        "headers": headers,
        **_bytes_members("body", request.body),
    }


def _request(members: dict[str, Any]) -> HttpRequest:
    return HttpRequest(
        method=members["method"],
        target=members["target"],
        headers=tuple((name, value) for name, value in members["headers"]),
        body=_bytes_from("body", members) or b"",
    )


def _origin_members(origin: Origin) -> dict[str, str]:
    members = {"kind": origin.kind, "upstream": origin.upstream, "path": origin.path}
    members |= {"route": origin.route, "claim": origin.claim}
    return {name: value for name, value in members.items() if value}


def _origin(members: dict[str, str]) -> Origin:
    if members["kind"] not in get_args(OriginKind):
        raise ValueError(f"unknown kind of origin {members['kind']!r}")
    return replace(Origin(kind="library"), **members)  # type: ignore[arg-type]


def _edit_members(edit: Edit) -> dict[str, str]:
    return {
        "at": timestamp(edit.at),
        "by": edit.by,
        "reason": edit.reason,
        "replaced_key": edit.replaced_key,
    }


def _edit(members: dict[str, str]) -> Edit:
    return Edit(
        at=parse_timestamp(members["at"]),
        by=members["by"],
        reason=members["reason"],
        replaced_key=members["replaced_key"],
    )
