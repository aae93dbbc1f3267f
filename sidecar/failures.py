"""How attempts fail, in the words of those that judge it: retries, metrics, clients."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sidecar.errors import (
    CircuitOpen,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from sidecar.retry.after import parse_retry_after
from sidecar.retry.policy import RETRYABLE_STATUSES, Failure

if TYPE_CHECKING:
    from sidecar.exchange import Exchange
    from sidecar.upstreams import Upstream
    from sidecar.wire.head import ResponseHead


def circuit_open(seconds: float) -> CircuitOpen:
    """No breaker lets the request pass, for so many seconds."""
    return CircuitOpen("the upstream's circuit breaker is open", reason="breaker", retry_after=seconds)


def classify(
    exchange: Exchange, upstream: Upstream, response: ResponseHead | None, error: UpstreamError | None
) -> tuple[Failure, float | None]:
    """How an attempt failed, and the seconds that a ``Retry-After`` asks for."""
    if exchange.head.upgrade is not None:
        return Failure.UPGRADE, None
    if exchange.destination.fallback in (None, upstream) and upstream.balancer.refusal(exchange.head_at):
        return Failure.BREAKER_OPEN, None
    if response is None:
        assert error is not None
        return Failure.NO_RESPONSE if error.sent else Failure.NOT_SENT, None
    if response.status not in RETRYABLE_STATUSES:
        return Failure.SERVER_ERROR, None
    values = response.special.get(b"retry-after")
    return Failure.RETRYABLE_STATUS, parse_retry_after(values[0], time.time()) if values else None


def outcome_of(error: UpstreamError) -> str:
    """The attempt's outcome in ``upstream_attempts_total``."""
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    if isinstance(error, UpstreamProtocolError):
        return "protocol_error"
    assert isinstance(error, UpstreamUnreachable)
    return "reset" if error.sent else "connect_failure"
