"""Fingerprints: whether two requests with the same key are the same request.

Layout of an encoded fingerprint (version 1)::

    version 1 | kind 1 | head 16, only if streamed | digest 32, missing while provisional   (bytes)

``kind`` is the route's setting; bit 4 is set for a streamed body, one of more than 1 MiB. ``head`` is the
beginning of SHA-256 over method, target and media type: it lets two streamed requests be told apart before
their bodies have passed. ``digest`` is SHA-256 over a label, the lengths of method, target and media type,
these themselves, the body and the body's length. How the body was framed (Content-Length, chunks, their
sizes) never enters.

A streamed body is never held in memory: ``json`` and ``form`` compare it byte by byte, ``multipart`` need
not.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple, Protocol

from sidecar.idempotency.canonical import canonical_form, canonical_json
from sidecar.idempotency.core import BUFFERED_BODY, ForeignRecordError, Match, NewerRecordError

VERSION: Final = 1

_STREAMED: Final = 0x10
_HEAD_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
_PREFIX_BYTES: Final = 2

_LONGEST_BOUNDARY: Final = 70  # RFC 2046, section 5.1.1

SAME: Final = Match.SAME

_LENGTHS: Final = Struct(">HIH")  # of method, target and media type; heads are bounded far below these widths
_BODY_LENGTH: Final = Struct(">Q")


class Kind(enum.IntEnum):
    """How two bodies are compared; the values are stored."""

    RAW = 1
    JSON = 2
    FORM = 3
    MULTIPART = 4


_LABELS: Final = {kind: f"sidecar-fingerprint/{VERSION}/{kind.name.lower()}\n".encode() for kind in Kind}
_RAW: Final = Kind.RAW
_RAW_LABEL: Final = _LABELS[Kind.RAW]


class Fingerprint:
    """A request's fingerprint.

    Attributes:
        value: As it is stored in a record.
    """

    __slots__ = ("_request", "value")

    def __init__(self, value: bytes, request: tuple[bytes, bytes, bytes, bytes] | None = None) -> None:
        self.value = value
        self._request = request  # what `take` needs, if the body is at hand

    def __repr__(self) -> str:
        return f"<Fingerprint {self.value.hex()}>"

    @property
    def is_provisional(self) -> bool:
        """Whether the body has not passed yet."""
        return len(self.value) == _PREFIX_BYTES + _HEAD_BYTES

    def compare(self, stored: bytes) -> Match:
        """Whether ``stored``, a record's fingerprint, is of the same request.

        Where the route's kind has changed since the record was written, a buffered request is compared in the
        record's kind; a streamed one only where both kinds compare it byte by byte.

        Raises:
            NewerRecordError: ``stored`` has a version or kind that this release does not know.
            ForeignRecordError: ``stored`` is not a fingerprint.
        """
        if stored == self.value and not self.is_provisional:
            return SAME
        mine, theirs = _Parts.read(self.value), _Parts.read(stored)
        multipart = Kind.MULTIPART in (mine.kind, theirs.kind)
        if mine.streamed != theirs.streamed and not multipart:
            return Match.OTHER  # the sizes lie on different sides of 1 MiB
        if mine.digest and theirs.digest:
            return Match.SAME if self._digest_as(theirs.kind, mine) == theirs.digest else Match.OTHER
        if mine.head and theirs.head and mine.head != theirs.head:
            return Match.OTHER
        return Match.UNDECIDED

    def _digest_as(self, kind: Kind, mine: _Parts) -> bytes:
        if kind is mine.kind:
            return mine.digest
        if self._request is not None:
            return _Parts.read(take(kind, *self._request).value).digest
        return b"" if Kind.MULTIPART in (kind, mine.kind) else mine.digest


class _Parts(NamedTuple):
    """An encoded fingerprint, taken apart."""

    kind: Kind
    streamed: bool
    head: bytes
    digest: bytes

    @classmethod
    def read(cls, encoded: bytes) -> _Parts:
        if len(encoded) < _PREFIX_BYTES:
            raise ForeignRecordError(
                f"a fingerprint has at least {_PREFIX_BYTES} bytes, this one has {len(encoded)}"
            )
        try:
            kind = Kind(encoded[1] & ~_STREAMED)
        except ValueError:
            raise NewerRecordError(f"fingerprint of unknown kind {encoded[1]:#x}") from None
        if encoded[0] != VERSION:
            raise NewerRecordError(f"fingerprint of version {encoded[0]}, this release knows {VERSION}")
        streamed = bool(encoded[1] & _STREAMED)
        head_end = _PREFIX_BYTES + (_HEAD_BYTES if streamed else 0)
        return cls(kind, streamed, encoded[_PREFIX_BYTES:head_end], encoded[head_end:])


def take(kind: Kind, method: bytes, target: bytes, media_type: bytes, body: bytes) -> Fingerprint:
    """The fingerprint of a request whose whole body is at hand.

    Args:
        kind: How bodies are compared.
        method: As on the request line.
        target: In origin form, with the query.
        media_type: The ``Content-Type`` field's value, empty if there is none.
        body: Without transfer coding.
    """
    if kind is not _RAW or len(body) > BUFFERED_BODY:
        fingerprinter = Fingerprinter(kind, method, target, media_type)
        fingerprinter.update(body)
        request = None if len(body) > BUFFERED_BODY else (method, target, media_type, body)
        return Fingerprint(fingerprinter.finish().value, request)
    description = _describe(method, target, _normalise(media_type))
    digest = sha256(b"".join((_RAW_LABEL, description, body, _BODY_LENGTH.pack(len(body))))).digest()
    return Fingerprint(_RAW_PREFIX + digest, (method, target, media_type, body))


class Fingerprinter:
    """Takes a fingerprint while the body passes, in flat memory.

    Arguments are those of :func:`take`.
    """

    __slots__ = ("_body", "_description", "_kind", "_length")

    def __init__(self, kind: Kind, method: bytes, target: bytes, media_type: bytes) -> None:
        self._kind = kind
        self._length = 0
        normal, boundary = _normalise(media_type), b""
        if kind is Kind.MULTIPART:
            normal, boundary = _without_boundary(normal)
        self._description = _describe(method, target, normal)
        self._body: _Body
        if kind is Kind.MULTIPART and boundary:
            self._body = _MultipartBody(self._description, boundary)
        elif kind in (Kind.JSON, Kind.FORM):
            self._body = _HeldBody(self._description, kind)
        else:
            self._body = _RawBody(self._description)

    def update(self, data: bytes) -> None:
        """The next bytes of the body."""
        self._length += len(data)
        self._body.update(data)

    def provisional(self) -> Fingerprint:
        """The fingerprint of a body of more than 1 MiB that is still to come."""
        return Fingerprint(self._prefix(_STREAMED) + self._head())

    def finish(self) -> Fingerprint:
        """The fingerprint, once the whole body has passed."""
        if self._length > BUFFERED_BODY:
            return Fingerprint(self._prefix(_STREAMED) + self._head() + self._body.digest())
        return Fingerprint(self._prefix(0) + self._body.digest())

    def _prefix(self, flags: int) -> bytes:
        return bytes((VERSION, self._kind | flags))

    def _head(self) -> bytes:
        return sha256(self._description).digest()[:_HEAD_BYTES]


class _Body(Protocol):
    """A body on its way into a digest."""

    def update(self, data: bytes) -> None: ...

    def digest(self) -> bytes: ...


class _RawBody:
    """Every byte counts."""

    __slots__ = ("_hash", "_length")

    def __init__(self, description: bytes) -> None:
        self._hash = sha256(_RAW_LABEL + description)
        self._length = 0

    def update(self, data: bytes) -> None:
        self._length += len(data)
        self._hash.update(data)

    def digest(self) -> bytes:
        final = self._hash.copy()
        final.update(_BODY_LENGTH.pack(self._length))
        return final.digest()


class _HeldBody:
    """JSON or a form: held until it ends, or until it is too large to be held and becomes raw."""

    __slots__ = ("_description", "_held", "_kind", "_length", "_raw")

    def __init__(self, description: bytes, kind: Kind) -> None:
        self._description = description
        self._kind = kind
        self._held: list[bytes] = []
        self._length = 0
        self._raw: _RawBody | None = None

    def update(self, data: bytes) -> None:
        self._length += len(data)
        if self._raw is not None:
            self._raw.update(data)
            return
        self._held.append(data)
        if self._length > BUFFERED_BODY:
            self._raw = self._as_raw()
            self._held.clear()

    def digest(self) -> bytes:
        if self._raw is not None:
            return self._raw.digest()
        body = b"".join(self._held)
        canonical = canonical_json(body) if self._kind is Kind.JSON else canonical_form(body)
        if canonical is None:
            return self._as_raw().digest()
        length = _BODY_LENGTH.pack(len(canonical))
        return sha256(_LABELS[self._kind] + self._description + canonical + length).digest()

    def _as_raw(self) -> _RawBody:
        raw = _RawBody(self._description)
        for data in self._held:
            raw.update(data)
        return raw


class _MultipartBody:
    """A body cut at its boundary (RFC 2046, section 5.1.1), each piece hashed with its length.

    What does not contain the boundary at all is not multipart and counts byte by byte.
    """

    __slots__ = ("_delimiter", "_outer", "_piece", "_piece_length", "_raw", "_rest")

    def __init__(self, description: bytes, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._rest = (
            b"\r\n"  # the first delimiter may stand at the very beginning, without a line end before it
        )
        self._outer = sha256(_LABELS[Kind.MULTIPART] + description)
        self._piece = sha256()
        self._piece_length = 0
        self._raw: _RawBody | None = _RawBody(description)

    def update(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.update(data)
        *pieces, rest = (self._rest + data).split(self._delimiter)
        for piece in pieces:
            self._raw = None
            self._grow(piece)
            self._cut()
        # The end of what is left may be the beginning of a delimiter.
        keep = min(len(rest), len(self._delimiter) - 1)
        self._grow(rest[: len(rest) - keep])
        self._rest = rest[len(rest) - keep :]

    def digest(self) -> bytes:
        if self._raw is not None:
            return self._raw.digest()
        self._grow(self._rest)
        self._rest = b""
        self._cut()
        return self._outer.digest()

    def _grow(self, data: bytes) -> None:
        self._piece.update(data)
        self._piece_length += len(data)

    def _cut(self) -> None:
        self._outer.update(_BODY_LENGTH.pack(self._piece_length) + self._piece.digest())
        self._piece = sha256()
        self._piece_length = 0


def _describe(method: bytes, target: bytes, media_type: bytes) -> bytes:
    return _LENGTHS.pack(len(method), len(target), len(media_type)) + method + target + media_type


@lru_cache(maxsize=256)
def _normalise(media_type: bytes) -> bytes:
    """A media type with lower-case names and without optional white space (RFC 9110, section 8.3.1)."""
    essence, *parameters = media_type.split(b";")
    normal = [essence.strip(b" \t").lower()]
    for parameter in parameters:
        name, equals, value = parameter.strip(b" \t").partition(b"=")
        normal.append(name.lower() + equals + value)
    return b";".join(normal)


def _without_boundary(media_type: bytes) -> tuple[bytes, bytes]:
    """The normalised media type without its boundary, and the boundary (empty if it names none)."""
    essence, *parameters = media_type.split(b";")
    others, boundary = [], b""
    for parameter in parameters:
        if parameter.startswith(b"boundary="):
            boundary = parameter[len(b"boundary=") :].strip(b'"')
        else:
            others.append(parameter)
    if not essence.startswith(b"multipart/") or len(boundary) > _LONGEST_BOUNDARY:
        return media_type, b""
    return b";".join([essence, *others]), boundary


_RAW_PREFIX: Final = bytes((VERSION, Kind.RAW))
