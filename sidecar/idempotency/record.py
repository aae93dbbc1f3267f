"""A record as it is looked at, and the response in it; plain objects, because every replay makes both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.idempotency.core import Loss, State

Headers = tuple[tuple[bytes, bytes], ...]


def has_secret(headers: bytes) -> bool:
    """Whether ``headers``, in whatever encoding, hold what is not to be kept beyond its request."""
    return b"set-cookie" in headers.lower()


class Response:
    """A response as it is kept and replayed. It is never changed.

    Attributes:
        status: HTTP status code.
        headers: Names and values, without what is never replayed.
        body: The whole body, or ``None`` where it was too large to keep.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes | None) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        size = "no body" if self.body is None else f"{len(self.body)} bytes"
        return f"<Response {self.status} {self.headers} {size}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Response)
            and self.status == other.status
            and self.headers == other.headers
            and self.body == other.body
        )

    def __hash__(self) -> int:
        return hash((self.status, self.headers, self.body))

    def without_body(self) -> Response:
        """What is left where the body cannot be kept."""
        return Response(self.status, self.headers, None)


class Record:
    """One key's record, as it was at one moment. Times are seconds since the Unix epoch by the store's clock.

    Attributes:
        id: Hash of service, route, caller and key.
        state: Where the key stands.
        token: The claim's token; every later write must show it.
        fingerprint: Encoded fingerprint of the request (see ``fingerprint``).
        route: Name of the route.
        correlation_id: Correlation id of the request that executed.
        created_at: When the key was claimed.
        lease_until: When the lease runs out; ``None`` unless executing.
        settled_at: When the record was completed or became unknown; ``None`` while executing.
        response: What is replayed; ``None`` unless completed.
        loss: Why the outcome is unknown; ``None`` unless it is.
        span: Trace id and span id of the request that executed, 24 raw bytes; empty if it was not sampled.
    """

    __slots__ = (
        "correlation_id",
        "created_at",
        "fingerprint",
        "id",
        "lease_until",
        "loss",
        "response",
        "route",
        "settled_at",
        "span",
        "state",
        "token",
    )

    def __init__(  # noqa: PLR0917 - by position, as codec.py reads them
        self,
        id: str,  # noqa: A002 - the attribute's name
        state: State,
        token: bytes,
        fingerprint: bytes,
        route: str,
        correlation_id: str,
        created_at: float,
        lease_until: float | None = None,
        settled_at: float | None = None,
        response: Response | None = None,
        loss: Loss | None = None,
        span: bytes = b"",
    ) -> None:
        self.id = id
        self.state = state
        self.token = token
        self.fingerprint = fingerprint
        self.route = route
        self.correlation_id = correlation_id
        self.created_at = created_at
        self.lease_until = lease_until
        self.settled_at = settled_at
        self.response = response
        self.loss = loss
        self.span = span

    def __repr__(self) -> str:
        return f"<Record {self.id[:12]} {self.route} {self.state.value}>"
