"""What a request writes into the store to be the one that executes."""

from __future__ import annotations

from typing import Any, Final

_MEMBERS: Final = (
    "record_id",
    "token",
    "fingerprint",
    "route",
    "correlation_id",
    "lease",
    "ttl",
    "timeout",
    "span",
)


class Claim:
    """Everything a claim writes; whoever holds it can settle the record. It is never changed.

    Attributes:
        record_id: Where the record stands.
        token: 16 random bytes.
        fingerprint: Encoded fingerprint of the request.
        route: Name of the route.
        correlation_id: Of the request that executes.
        lease: Seconds that the claim holds without being renewed.
        ttl: Seconds that the settled record is kept.
        timeout: Seconds that the store may be silent.
        span: Trace id and span id of the request that executes, 24 raw bytes; empty if it is not sampled.
    """

    __slots__ = _MEMBERS

    def __init__(  # noqa: PLR0917 - made for every request with a key, where names cost
        self,
        record_id: str,
        token: bytes,
        fingerprint: bytes,
        route: str,
        correlation_id: str,
        lease: float,
        ttl: float,
        timeout: float = 1.0,
        span: bytes = b"",
    ) -> None:
        self.record_id = record_id
        self.token = token
        self.fingerprint = fingerprint
        self.route = route
        self.correlation_id = correlation_id
        self.lease = lease
        self.ttl = ttl
        self.timeout = timeout
        self.span = span

    def __repr__(self) -> str:
        return f"<Claim {self.record_id[:12]} {self.route}>"

    def replace(self, **changes: Any) -> Claim:
        """The same claim but for ``changes``."""
        return Claim(**{name: getattr(self, name) for name in _MEMBERS} | changes)
