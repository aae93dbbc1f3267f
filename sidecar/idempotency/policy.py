"""A route's idempotency settings, compiled once at load, and what follows from them without any I/O."""

from __future__ import annotations

from functools import lru_cache, partial
from struct import Struct
from typing import TYPE_CHECKING, Final

from sidecar.errors import IdempotencyKeyMissing
from sidecar.idempotency.fingerprint import Kind
from sidecar.idempotency.key import parse_key, record_id
from sidecar.idempotency.record import has_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sidecar.idempotency.record import Headers

RELEASED_STATUSES: Final = frozenset({401, 403, 407, 408, 421, 425, 429, 503})
"""Statuses that say "not now" or "not you": a retry must reach the upstream again, so they are not kept."""

# What describes one delivery or one connection, not the outcome. The writer frames a replay itself.
_NEVER_REPLAYED: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"content-length",
    b"www-authenticate", b"proxy-authenticate", b"authentication-info", b"proxy-authentication-info",
    b"date", b"age",
    b"traceparent", b"tracestate", b"traceresponse", b"baggage", b"server-timing", b"x-request-id",
    b"x-idempotent-replayed", b"x-idempotent-original-correlation-id", b"x-idempotency-status",
})  # fmt: skip

_KEPT: Final = "kept"
_DROPPED: Final = "dropped"
_NOMINATES: Final = "nominates others to be dropped"

# An upstream's answers have the same fields for as long as their Date is the same. Secrets are not kept.
_REMEMBERED: Final = 64
_REMEMBERED_LENGTH: Final = 2048

_LENGTH: Final = Struct(">I")
_METHODS: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_RAW: Final = Kind.RAW


class RoutePolicy:
    """How one route protects requests with a key. Times are in seconds. It is never changed.

    Attributes:
        service: The service's name; part of every record's id.
        route: The route's name; part of every record's id.
        enabled: ``False`` for ``idempotency: off``: nothing is protected, keys are marked so.
        methods: Methods that are protected.
        required: Whether a request without a key is refused.
        ttl: How long a settled record is kept.
        kind: How bodies are compared.
        scope: Lower-case names of the headers that tell callers apart.
        lease: How long a claim holds without being renewed; at least 1.
        wait: Whether a duplicate waits for the first one's response.
        wait_timeout: How long it waits.
        store_open: Whether requests are forwarded unprotected while the store is down.
        store_timeout: How long the store may be silent before it counts as down.
        reexecute: Whether a key with an unknown outcome may be executed again.
        release_on: Statuses that are not kept.
        replay_set_cookie: Whether ``Set-Cookie`` is replayed.
        correlation_header: Lower-case name of the header that carries the correlation id.
    """

    __slots__ = (
        "_fate",
        "_namespace",
        "_recent",
        "correlation_header",
        "enabled",
        "kind",
        "lease",
        "methods",
        "reexecute",
        "release_on",
        "replay_set_cookie",
        "required",
        "route",
        "scope",
        "service",
        "store_open",
        "store_timeout",
        "ttl",
        "wait",
        "wait_timeout",
    )

    def __init__(
        self,
        *,
        service: str,
        route: str,
        enabled: bool = True,
        methods: frozenset[bytes] = _METHODS,
        required: bool = False,
        ttl: float = 86_400.0,
        kind: Kind = _RAW,
        scope: tuple[bytes, ...] = (b"authorization",),
        lease: float = 15.0,
        wait: bool = False,
        wait_timeout: float = 5.0,
        store_open: bool = False,
        store_timeout: float = 1.0,
        reexecute: bool = False,
        release_on: frozenset[int] = RELEASED_STATUSES,
        replay_set_cookie: bool = False,
        correlation_header: bytes = b"x-correlation-id",
    ) -> None:
        self.service = service
        self.route = route
        self.enabled = enabled
        self.methods = methods
        self.required = required
        self.ttl = ttl
        self.kind = kind
        self.scope = scope
        self.lease = lease
        self.wait = wait
        self.wait_timeout = wait_timeout
        self.store_open = store_open
        self.store_timeout = store_timeout
        self.reexecute = reexecute
        self.release_on = release_on
        self.replay_set_cookie = replay_set_cookie
        self.correlation_header = correlation_header
        dropped = _NEVER_REPLAYED | {correlation_header}
        if not replay_set_cookie:
            dropped |= {b"set-cookie"}
        self._fate: Callable[[bytes], object] = lru_cache(maxsize=1024)(partial(_fate, dropped))
        self._recent: dict[bytes, Headers] = {}
        self._namespace = _framed([service.encode(), route.encode()])

    def __repr__(self) -> str:
        return f"<RoutePolicy {self.service}/{self.route}>"

    def applies(self, method: bytes) -> bool:
        """Whether a key on a request with ``method`` is looked at."""
        return self.enabled and method in self.methods

    def read_key(self, values: Sequence[bytes]) -> bytes | None:
        """The key in the ``Idempotency-Key`` field lines, or ``None`` where there is none.

        Raises:
            IdempotencyKeyMissing: There is none, and the route requires one.
            IdempotencyKeyInvalid: It is malformed.
        """
        if values:
            return parse_key(values)
        if self.required:
            raise IdempotencyKeyMissing(
                "this route requires an Idempotency-Key header: one value per operation, the same on a retry",
                reason="missing",
            )
        return None

    def record_id(self, caller: Sequence[Sequence[bytes]], key: bytes) -> str:
        """The id of the record: 64 hexadecimal digits of SHA-256 over service, route, caller and key.

        Args:
            caller: For each header of ``scope``, in order, the values it has in the request (none if absent).
            key: The parsed key.
        """
        return record_id(self._namespace, caller, key)

    def keeps(self, status: int) -> bool:
        """Whether a response with ``status`` is kept; otherwise the key is free again."""
        return status not in self.release_on

    def replayable(self, headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        """``headers`` without what is never replayed, fields named by ``Connection`` included."""
        fate_of = self._fate
        kept = []
        for line in headers:
            fate = fate_of(line[0])
            if fate is _KEPT:
                kept.append(line)
            elif fate is _NOMINATES:
                return self._replayable_but(_nominated(headers), headers)
        return tuple(kept)

    def replayable_lines(self, block: bytes, lines: Sequence[bytes]) -> Headers:
        """The same for field lines; ``block`` is all of them. One that came before is answered at once."""
        headers = self._recent.get(block)
        if headers is None:
            headers = self.replayable([_name_and_value(line) for line in lines])
            if len(block) <= _REMEMBERED_LENGTH and not has_secret(block):
                if len(self._recent) >= _REMEMBERED:
                    self._recent.clear()
                self._recent[block] = headers
        return headers

    def _replayable_but(self, nominated: frozenset[bytes], headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        return tuple(
            line for line in headers if self._fate(line[0]) is _KEPT and line[0].lower() not in nominated
        )


def _fate(dropped: frozenset[bytes], name: bytes) -> object:
    """Whether a header with this name is replayed; upstreams send the same names again and again."""
    lowered = name.lower()
    if lowered == b"connection":
        return _NOMINATES
    return _DROPPED if lowered in dropped else _KEPT


def _name_and_value(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")


def _framed(values: Sequence[bytes]) -> bytes:
    """``values`` joined so that no two lists give the same bytes."""
    return b"".join([_LENGTH.pack(len(value)) + value for value in values])


def _nominated(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(
        option.strip(b" \t").lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    )
