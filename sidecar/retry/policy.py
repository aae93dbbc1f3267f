"""Whether a failed attempt may be sent again.

A retry must be *safe* before it is useful: a request that may have had an effect is sent again only if a
second effect does no harm (RFC 9110, section 9.2.2: idempotent methods) or if the upstream itself removes
duplicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from random import Random, SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from sidecar.retry.backoff import Backoff

if TYPE_CHECKING:
    from sidecar.retry.budget import RetryBudget

LONGEST_RETRY_AFTER = 60.0
"""Seconds of an upstream's ``Retry-After`` that are waited for where no deadline says less."""

RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
"""Answers that say "not now", as opposed to 500, which says "I broke", perhaps half-way."""

REPEATABLE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""Idempotent methods of RFC 9110, section 9.2.2."""

DEDUPED_METHODS = frozenset({b"POST", b"PATCH"})
"""Methods that become repeatable where the upstream removes duplicates."""

KEYED_METHODS = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose ``Idempotency-Key`` the sidecar honours."""

_RANDOM = SystemRandom()


class Failure(Enum):
    """How an attempt failed."""

    NOT_SENT = auto()
    """Nothing was written to the upstream: it did not accept the connection, or closed it before."""
    NO_RESPONSE = auto()
    """Something was written, and no response came: a reset, a timeout, nonsense."""
    RETRYABLE_STATUS = auto()
    """An answer of :data:`RETRYABLE_STATUSES`."""
    SERVER_ERROR = auto()
    """A 500, or any other answer that is a failure."""
    RESPONSE_BEGUN = auto()
    """The response broke off after its head."""
    UPGRADE = auto()
    """A request to upgrade failed, or the tunnel after it."""
    BREAKER_OPEN = auto()
    """No host's breaker let the attempt pass."""


class Skip(StrEnum):
    """Why a failed attempt is not sent again: the ``reason`` of ``retry_skipped_total``."""

    METHOD = "method"
    BODY = "body"
    SERVER_ERROR = "server_error"
    RESPONSE_BEGUN = "response_begun"
    UPGRADE = "upgrade"
    BREAKER_OPEN = "breaker_open"
    ATTEMPTS = "attempts"
    RETRY_AFTER = "retry_after"
    DEADLINE = "deadline"
    BUDGET = "budget"


class Needs(Enum):
    """What must hold, besides a body that can be replayed, for a failure to be retried."""

    NOTHING = auto()
    REPEATABLE_METHOD = auto()


# The decision table. A failure leads to what it needs, or to the reason why it is never retried.
RULES: dict[Failure, Needs | Skip] = {
    Failure.NOT_SENT: Needs.NOTHING,
    Failure.NO_RESPONSE: Needs.REPEATABLE_METHOD,
    Failure.RETRYABLE_STATUS: Needs.REPEATABLE_METHOD,
    Failure.SERVER_ERROR: Skip.SERVER_ERROR,
    Failure.RESPONSE_BEGUN: Skip.RESPONSE_BEGUN,
    Failure.UPGRADE: Skip.UPGRADE,
    Failure.BREAKER_OPEN: Skip.BREAKER_OPEN,
}


def is_repeatable(method: bytes, *, keyed: bool, upstream_dedupes: bool) -> bool:
    """Whether a request that may have had its effect may be sent once more.

    Args:
        method: As on the wire, upper case.
        keyed: Whether it carries an ``Idempotency-Key``. A keyed PUT counts as POST: the key protects against
            the client's own repetitions, and says nothing of what the upstream does with a second one.
        upstream_dedupes: Whether the route vouches that the upstream removes duplicates.
    """
    if method in DEDUPED_METHODS or (keyed and method in KEYED_METHODS):
        return upstream_dedupes
    return method in REPEATABLE_METHODS


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """What a decision needs to know.

    Attributes:
        failure: How it failed.
        number: Which attempt it was; 1 is the first.
        method: As on the wire, upper case.
        keyed: Whether the request carries an ``Idempotency-Key``.
        upstream_dedupes: Whether the route vouches that the upstream removes duplicates.
        replayable: Whether the whole body is at hand, or there is none.
        remaining: Seconds to the request's deadline; ``inf`` if it has none.
        retry_after: Seconds that the response's ``Retry-After`` asks for, or ``None``.
    """

    failure: Failure
    number: int
    method: bytes
    keyed: bool = False
    upstream_dedupes: bool = False
    replayable: bool = True
    remaining: float = math.inf
    retry_after: float | None = None


class Verdict(NamedTuple):
    """Retry after ``delay`` seconds, or do not, for the reason ``skip``."""

    skip: Skip | None
    delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A route's rules for sending again.

    Attributes:
        max_attempts: Attempts in all, the first included; at least 1, which means no retries.
        backoff: The pauses between them.
        random: For the jitter.

    Raises:
        ValueError: ``max_attempts`` is below 1.
    """

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    random: Random = _RANDOM

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")

    def decide(self, attempt: FailedAttempt, budget: RetryBudget) -> Verdict:
        """Whether to send again, and when.

        A verdict to retry has taken a place in ``budget``: the caller ends it with ``budget.retry_ended()``.
        """
        skip = self._unsafe(attempt)
        if skip is not None:
            return Verdict(skip)
        if attempt.number >= self.max_attempts:
            return Verdict(Skip.ATTEMPTS)
        delay = self.backoff.delay(attempt.number, self.random)
        if attempt.retry_after is not None:
            if attempt.retry_after >= min(attempt.remaining, LONGEST_RETRY_AFTER):
                return Verdict(Skip.RETRY_AFTER)
            delay = max(delay, attempt.retry_after)
        if delay >= attempt.remaining:
            return Verdict(Skip.DEADLINE)
        if not budget.try_retry():
            return Verdict(Skip.BUDGET)
        return Verdict(None, delay)

    @staticmethod
    def _unsafe(attempt: FailedAttempt) -> Skip | None:
        rule = RULES[attempt.failure]
        if isinstance(rule, Skip):
            return rule
        if rule is Needs.REPEATABLE_METHOD and not is_repeatable(
            attempt.method, keyed=attempt.keyed, upstream_dedupes=attempt.upstream_dedupes
        ):
            return Skip.METHOD
        return None if attempt.replayable else Skip.BODY
