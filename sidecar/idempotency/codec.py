"""A record as bytes: what stands in Redis.

A record is a head of fixed width in ASCII, which the Lua scripts read and write by position, and a tail in
binary that only this module looks into (version 1; offset, length)::

    head    0   3  "SI1": magic and version
            3   1  state: E executing, C completed, U unknown, F freed (counts as absent; see below)
            4   1  "1" if the key had been sent before this claim, else "0"
            5   1  "1" if someone waits for the settlement, else "0"
            6   1  why the outcome is unknown, a letter of LOSSES; "-" otherwise
            7  16  token, raw; zeros where an operator has resolved the record
           23  13  executing: when the lease runs out; else: when it was settled (Unix milliseconds)
           36  13  when it was claimed
    tail   49  13  big-endian: lengths of fingerprint (1), route (2) and correlation id (2), status (2),
                   length of headers (4), body kept (1), length of span (1)
           62      fingerprint, route, correlation id, span, headers, body (to the end)
    headers        number of fields (2), lengths of all names and values (4 each), names and values

An executing record whose lease has run out *is* unknown; nobody needs to write that down. A freed record
tells sidecars that remember the key as sent that an operator has released it.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as StructError  # noqa: N812 - an exception's name
from typing import TYPE_CHECKING, Final

from sidecar.idempotency.core import ForeignRecordError, Loss, NewerRecordError, State
from sidecar.idempotency.record import Headers, Record, Response, has_secret

if TYPE_CHECKING:
    from sidecar.idempotency.claim import Claim

MAGIC: Final = b"SI"
VERSION: Final = b"1"
HEAD_BYTES: Final = 49
FREED: Final = b"F"
# Members are looked up by a function of their class, for which every replay would pay.
_EXECUTING: Final = State.EXECUTING
_COMPLETED: Final = State.COMPLETED
STATES: Final = {b"E": _EXECUTING, b"C": _COMPLETED, b"U": State.UNKNOWN}
LOSSES: Final = {
    Loss.LEASE: b"l",
    Loss.TIMEOUT: b"t",
    Loss.RESET: b"r",
    Loss.TRUNCATED: b"c",
    Loss.PROTOCOL: b"p",
    Loss.UPLOAD: b"u",
    Loss.FORGOTTEN: b"f",
}

_LOSS_OF: Final = {b"-": None, **{letter: loss for loss, letter in LOSSES.items()}}
_TAIL: Final = Struct(">BHHHIBB")
# An upstream's answers have the same headers again and again. Secrets are not kept beyond their request.
_MOST_REMEMBERED: Final = 64
_REMEMBERED_LENGTH: Final = 2048
_ENCODED: Final[dict[int, tuple[Headers, bytes]]] = {}
_DECODED: Final[dict[bytes, Headers]] = {}
_COUNT: Final = Struct(">H")
_FINGERPRINT_START: Final = HEAD_BYTES + _TAIL.size


def encode_tail(claim: Claim, response: Response | None = None) -> bytes:
    """The tail of the record that ``claim`` makes, with its response once there is one."""
    fingerprint, route, correlation_id, span = (
        claim.fingerprint,
        claim.route.encode(),
        claim.correlation_id.encode(),
        claim.span,
    )
    if response is None:
        lengths = _TAIL.pack(len(fingerprint), len(route), len(correlation_id), 0, 0, 0, len(span))
        return b"".join((lengths, fingerprint, route, correlation_id, span))
    body = response.body
    encoded = _encode_headers(response.headers)
    lengths = _TAIL.pack(
        len(fingerprint),
        len(route),
        len(correlation_id),
        response.status,
        len(encoded),
        body is not None,
        len(span),
    )
    return b"".join((lengths, fingerprint, route, correlation_id, span, encoded, body or b""))


def _encode_headers(headers: Headers) -> bytes:
    """A table of lengths, then names and values. A tuple that comes again is known by sight."""
    known = _ENCODED.get(id(headers))
    if known is not None:
        return known[1]
    fields = [part for line in headers for part in line]
    encoded = b"".join((_table(len(fields)).pack(len(headers), *map(len, fields)), *fields))
    if len(encoded) <= _REMEMBERED_LENGTH and not has_secret(encoded):
        if len(_ENCODED) >= _MOST_REMEMBERED:
            _ENCODED.clear()
        _ENCODED[id(headers)] = headers, encoded  # which keeps the tuple, and so its id
    return encoded


def decode(record_id: str, encoded: bytes, now: int, *, brief: bool = False) -> Record | None:
    """The record that ``encoded`` holds; ``None`` if it was freed.

    Args:
        record_id: Its id.
        encoded: Head and tail.
        now: Milliseconds by the store's clock.
        brief: Leave out headers and body; ``encoded`` may end before them.

    Raises:
        NewerRecordError: A newer release wrote it.
        ForeignRecordError: No sidecar wrote it, or it is damaged.
    """
    if encoded[:2] != MAGIC:
        raise ForeignRecordError(f"the value of record {record_id} was not written by a sidecar")
    if encoded[2:3] != VERSION:
        raise NewerRecordError(
            f"record {record_id} has version {encoded[2:3]!r}; this release knows {VERSION!r}"
        )
    try:
        return _decode(record_id, encoded, now, brief=brief)
    except (StructError, KeyError, ValueError) as error:
        raise ForeignRecordError(f"record {record_id} is damaged: {error}") from error


def _decode(record_id: str, encoded: bytes, now: int, *, brief: bool) -> Record | None:
    letter = encoded[3:4]
    if letter == FREED:
        return None
    state, loss = STATES[letter], _LOSS_OF[encoded[6:7]]
    moment, created_at = int(encoded[23:36]), int(encoded[36:49])
    lengths: tuple[int, int, int, int, int, int, int] = _TAIL.unpack_from(encoded, HEAD_BYTES)
    fingerprint_length, route_length, correlation_length, status, headers_length, kept, span_length = lengths
    route_start = _FINGERPRINT_START + fingerprint_length
    correlation_start = route_start + route_length
    span_start = correlation_start + correlation_length
    headers_start = span_start + span_length
    body_start = headers_start + headers_length
    if len(encoded) < (headers_start if brief else body_start):
        raise ValueError("it is cut short")
    response: Response | None = None
    lease_until: float | None = None
    settled_at: float | None = None
    if state is _COMPLETED:
        headers = () if brief else _headers_of(encoded[headers_start:body_start])
        response = Response(status, headers, encoded[body_start:] if kept and not brief else None)
    if state is _EXECUTING and moment > now:
        lease_until = moment / 1000
    else:
        settled_at = moment / 1000
        if state is _EXECUTING:
            state, loss = State.UNKNOWN, Loss.LEASE
    return Record(
        record_id,
        state,
        encoded[7:23],
        encoded[_FINGERPRINT_START:route_start],
        encoded[route_start:correlation_start].decode(),
        encoded[correlation_start:span_start].decode(),
        created_at / 1000,
        lease_until,
        settled_at,
        response,
        loss,
        encoded[span_start:headers_start],
    )


def _headers_of(encoded: bytes) -> Headers:
    headers = _DECODED.get(encoded)
    if headers is None:
        headers = _decode_headers(encoded)
        if len(encoded) <= _REMEMBERED_LENGTH and not has_secret(encoded):
            if len(_DECODED) >= _MOST_REMEMBERED:
                _DECODED.clear()
            _DECODED[encoded] = headers
    return headers


def _decode_headers(encoded: bytes) -> Headers:
    counted: tuple[int] = _COUNT.unpack_from(encoded, 0)
    count = counted[0]
    table = _table(2 * count)
    lengths: tuple[int, ...] = table.unpack_from(encoded, 0)
    position = table.size
    headers: list[tuple[bytes, bytes]] = []
    for index in range(1, 2 * count, 2):
        value_start = position + lengths[index]
        value_end = value_start + lengths[index + 1]
        headers.append((encoded[position:value_start], encoded[value_start:value_end]))
        position = value_end
    if position != len(encoded):
        raise ValueError("its headers do not fill their place")
    return tuple(headers)


@lru_cache(maxsize=256)
def _table(fields: int) -> Struct:
    """The number of headers and the lengths of their names and values."""
    return Struct(f">H{fields}I")
