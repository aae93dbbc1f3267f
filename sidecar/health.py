"""Active health checks: when a host counts as well, whatever its traffic shows.

The checks themselves are made elsewhere; this is what their results add up to. A breaker judges a host by
the calls it gets, a health check finds a broken host before any call does, and finds a host well that gets
none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNHEALTHY_AFTER: Final = 3
"""Failed checks in a row that take a host out."""

HEALTHY_AFTER: Final = 2
"""Passed checks in a row that bring it back."""


@dataclass(slots=True)
class Health:
    """What the checks say of one host. It begins healthy: without evidence nobody is taken out.

    Attributes:
        healthy: The verdict.
        in_a_row: Checks in a row that contradict it.
    """

    healthy: bool = True
    in_a_row: int = 0

    def record(self, *, passed: bool) -> bool:
        """Take in the result of a check; whether the verdict has changed."""
        if passed == self.healthy:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        if self.in_a_row < (UNHEALTHY_AFTER if self.healthy else HEALTHY_AFTER):
            return False
        self.healthy = passed
        self.in_a_row = 0
        return True
