"""How long to wait before a retry."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random, SystemRandom

_RANDOM = SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter.

    The pause before retry n is a random number between 0 and ``initial_delay * multiplier ** (n - 1)``, at
    most
    ``max_delay``: "Full Jitter" of Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog,
        2015),
    which needs the fewest calls in all when many clients compete.

    Attributes:
        initial_delay: Longest pause before the first retry, in seconds, not negative.
        multiplier: By what the longest pause grows with each retry, at least 1.
        max_delay: What it grows to at most, in seconds, not negative.
        jitter: Draw at random; otherwise every pause is its longest.

    Raises:
        ValueError: A value is out of its range.
    """

    initial_delay: float = 0.1
    multiplier: float = 2.0
    max_delay: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.initial_delay < 0 or self.max_delay < 0:
            raise ValueError(
                f"delays are not negative, got {self.initial_delay} and {self.max_delay} seconds"
            )
        if self.multiplier < 1:
            raise ValueError(f"multiplier must be at least 1, got {self.multiplier}")

    def delay(self, retry: int, random: Random = _RANDOM) -> float:
        """Seconds to wait before retry number ``retry`` (1 is the first)."""
        try:
            longest = min(self.max_delay, self.initial_delay * self.multiplier ** (retry - 1))
        except OverflowError:  # a float to the power of some thousand retries
            longest = self.max_delay
        return random.uniform(0, longest) if self.jitter else longest
