"""The arithmetic of the benchmark: medians with their spread, ratios by round, and the verdict on a row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, with the lowest and the highest of them."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Sum up ``values``, of which there must be one at least."""
        known = list(values)
        if not known:
            raise ValueError("expected the figures of one round at least, got none")
        return cls(median(known), min(known), max(known))


def by_round(
    ours: Sequence[float], theirs: Sequence[float], compare: Callable[[float, float], float]
) -> Spread:
    """Compare the figures that belong to the same round, so that a slow moment of the machine hits both."""
    if len(ours) != len(theirs):
        raise ValueError(f"expected as many rounds on both sides, got {len(ours)} and {len(theirs)}")
    return Spread.of(compare(our, their) for our, their in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of ``values`` do not exceed: the nearest rank."""
    if not values:
        raise ValueError("expected one value at least, got none")
    rank = max(math.ceil(share * len(values)), 1)
    return sorted(values)[rank - 1]


class Promise(Enum):
    """Which of a row's figures is held against its limit."""

    RATIO = "ratio"
    DIFFERENCE = "difference"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        case: Name of the case that measured it.
        what: What was measured, for people.
        unit: Unit of ``value``, ``other`` and of a difference.
        value: The sidecar's figure.
        against: Who it is compared with; empty where the promise is about the value alone.
        other: That one's figure.
        compared: Ratio or difference of the two, taken round by round.
        promise: Which figure the limit is for.
        limit: The highest figure allowed; ``None`` for a row that only informs.
    """

    case: str
    what: str
    unit: str
    value: Spread
    against: str = ""
    other: Spread | None = None
    compared: Spread | None = None
    promise: Promise = Promise.VALUE
    limit: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the promise; ``None`` without one."""
        if self.limit is None:
            return None
        judged = self.value if self.compared is None else self.compared
        return judged.middle <= self.limit


def value_row(case: str, what: str, unit: str, values: Sequence[float], limit: float | None = None) -> Row:
    """A row about the sidecar's figure alone."""
    return Row(case, what, unit, Spread.of(values), limit=limit)


def ratio_row(
    case: str,
    what: str,
    unit: str,
    *,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    limit: float | None = None,
) -> Row:
    """A row about how many times the other's figure the sidecar's is."""
    compared = by_round(ours, theirs, lambda our, their: our / their)
    return Row(case, what, unit, Spread.of(ours), against, Spread.of(theirs), compared, Promise.RATIO, limit)


def difference_row(
    case: str,
    what: str,
    unit: str,
    *,
    ours: Sequence[float],
    against: str,
    theirs: Sequence[float],
    limit: float | None = None,
) -> Row:
    """A row about what the sidecar's figure is above the other's."""
    compared = by_round(ours, theirs, lambda our, their: our - their)
    return Row(
        case, what, unit, Spread.of(ours), against, Spread.of(theirs), compared, Promise.DIFFERENCE, limit
    )
