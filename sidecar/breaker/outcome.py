"""What an answer's status says of the upstream."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

SOFT_FAILURES = frozenset({429, 500})
"""Signs of trouble, though not of an upstream that is down: they count towards the failure rate alone."""


class Outcome(Enum):
    """How a call counts."""

    GOOD = auto()
    SOFT_FAILURE = auto()
    HARD_FAILURE = auto()


def outcomes_by_status(failure_statuses: Collection[int]) -> tuple[Outcome, ...]:
    """A table of 1000 outcomes, by status code: made once, looked up per call.

    Args:
        failure_statuses: Those that are hard failures, each below 1000. Any other answer, but for
            :data:`SOFT_FAILURES`, shows an upstream that works: a 404 or a 501 is the client's affair.
    """
    table = [Outcome.GOOD] * 1000
    for status in SOFT_FAILURES:
        table[status] = Outcome.SOFT_FAILURE
    for status in failure_statuses:
        table[status] = Outcome.HARD_FAILURE
    return tuple(table)
