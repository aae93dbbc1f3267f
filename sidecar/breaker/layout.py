"""Where a breaker's numbers stand in its row. See :mod:`sidecar.scoreboard.row`.

The *word* is a breaker's generation, which grows with every transition, above two bits with the state's
number. It is the permit of calls, too: one comparison of integers tells whether a result still counts.
"""

from __future__ import annotations

from typing import Final

from sidecar.breaker.override import OVERRIDE_CELLS
from sidecar.breaker.window import RING_CELLS

CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2
PHASE: Final = 3  # the bits of a word that hold the state's number
NEXT_GENERATION: Final = PHASE + 1

# Common cells. Times are microseconds of the monotonic clock.
WORD: Final = 0
CAREFUL: Final = 1  # not 0 while a good call changes more than its bucket's count
RUN: Final = 2  # hard failures in a row
SINCE: Final = 3
CAUSE: Final = 4
DUE: Final = 5  # when something changes by itself: the open time is up, or an override ends
OPEN_UNTIL: Final = 6
REOPENED: Final = 7  # how often probes have failed since the breaker was last closed
PROBES_OK: Final = 8
PROBES_SLOW: Final = 9
LAST_COUNTS: Final = 10  # four cells: the Counts of the last transition
OVERRIDE: Final = 14
COMMON_CELLS: Final = OVERRIDE + OVERRIDE_CELLS

# Own cells.
PROBED_WORD: Final = 0  # the half-open word that the next cell belongs to
PROBES: Final = 1  # this worker's probes in flight
RING: Final = 2
OWN_CELLS: Final = RING + RING_CELLS
