"""What the outcome of one attempt to deliver an event means.

=============================== ===============================================
outcome                         verdict
=============================== ===============================================
2xx                             delivered
408, 425, 429, 5xx              again, after a pause that grows
any other answer                rejected: no second attempt would do better
no answer                       again
circuit breaker open            paused: nothing was sent, no attempt is spent
bulkhead full                   crowded: the same, for this event alone
=============================== ===============================================
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.dlq.record import clean_text
from sidecar.errors import BulkheadFull, CircuitOpen, SidecarError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.dlq.record import Attempt

MAX_LOST: Final = 20
"""Consumers that may vanish with an event in their hands: beyond, it is taken for the cause."""

_RETRIED: Final = frozenset({408, 425, 429})
_SUCCESSES: Final = range(200, 300)
_SERVER_ERRORS: Final = range(500, 600)
_DEFAULT_PAUSE: Final = 1.0


class Verdict(Enum):
    """What to do with the event."""

    DELIVERED = auto()
    AGAIN = auto()
    REJECTED = auto()
    PAUSED = auto()
    CROWDED = auto()


class Outcome(NamedTuple):
    """How one attempt ended.

    Attributes:
        verdict: What to do.
        error: What happened, for people; empty if it was delivered.
        status: The answer, or ``None``.
        pause: Seconds until another attempt makes sense, for ``PAUSED`` and ``CROWDED``.
        reached: Whether anything may have reached the subscriber.
    """

    verdict: Verdict
    error: str = ""
    status: int | None = None
    pause: float = 0.0
    reached: bool = True


def judge_status(status: int, path: str) -> Outcome:
    """The outcome of an attempt that was answered."""
    if status in _SUCCESSES:
        return Outcome(Verdict.DELIVERED, status=status)
    again = status in _RETRIED or status in _SERVER_ERRORS
    return Outcome(Verdict.AGAIN if again else Verdict.REJECTED, f"{status} from POST {path}", status)


def judge_error(error: Exception) -> Outcome:
    """The outcome of an attempt that was not."""
    text = clean_text(f"{error.code}: {error}" if isinstance(error, SidecarError) else repr(error))
    if isinstance(error, CircuitOpen):
        return Outcome(Verdict.PAUSED, text, pause=error.retry_after or _DEFAULT_PAUSE, reached=False)
    if isinstance(error, BulkheadFull):
        return Outcome(Verdict.CROWDED, text, pause=error.retry_after or _DEFAULT_PAUSE, reached=False)
    reached = error.sent if isinstance(error, UpstreamError) else True
    return Outcome(Verdict.AGAIN, text, reached=reached)


def give_up_reason(attempts: Sequence[Attempt], max_attempts: int) -> str:
    """Why an event shall not be tried again, in one word, or an empty text."""
    spent = sum(1 for attempt in attempts if attempt.spent)
    if spent >= max_attempts:
        return "attempts_exhausted"
    lost = sum(1 for attempt in attempts if attempt.error.startswith(LOST))
    return "consumers_lost" if lost > MAX_LOST else ""


LOST: Final = "consumer lost: "
"""How the error of an attempt begins whose consumer vanished. It is not spent: nobody knows how it ended."""
