"""A circuit breaker's states, what moves it from one to another, and the values that tell of it.

The automatic life of a breaker is this circle::

             failures in a row, failure rate, slow calls
    CLOSED ───────────────────────────────────────────────▶ OPEN
       ▲                                                    │  ▲
       │                                     the time is up │  │ a probe failed,
       │                                                    ▼  │ or they were slow
       └───────────── all probes succeeded ──────────── HALF_OPEN

Operators can leave it: ``forced_open`` and ``forced_closed`` fix the state until their time is up; the circle
then begins anew at CLOSED. ``observe`` lets the circle turn, so that it can be watched, and refuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a breaker does with calls."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


STATES = (State.CLOSED, State.HALF_OPEN, State.OPEN)
"""By number, as the ``circuit_breaker_state`` metric gives them: 0 closed, 1 half-open, 2 open."""


class Cause(StrEnum):
    """Why a breaker changed its state."""

    START = "start"
    FAILURES_IN_A_ROW = "failures_in_a_row"
    FAILURE_RATE = "failure_rate"
    SLOW_CALLS = "slow_calls"
    TIME_UP = "reset_timeout"
    PROBES_SUCCEEDED = "probes_succeeded"
    PROBE_FAILED = "probe_failed"
    PROBES_SLOW = "probes_slow"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    OVERRIDE_ENDED = "override_ended"


CAUSES = tuple(Cause)

# What the automatic circle may do; everything else is an operator's doing.
TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.CLOSED, Cause.FAILURES_IN_A_ROW): State.OPEN,
    (State.CLOSED, Cause.FAILURE_RATE): State.OPEN,
    (State.CLOSED, Cause.SLOW_CALLS): State.OPEN,
    (State.OPEN, Cause.TIME_UP): State.HALF_OPEN,
    (State.HALF_OPEN, Cause.PROBES_SUCCEEDED): State.CLOSED,
    (State.HALF_OPEN, Cause.PROBE_FAILED): State.OPEN,
    (State.HALF_OPEN, Cause.PROBES_SLOW): State.OPEN,
    # An override may begin in any state. Its end begins the circle anew.
    **{(state, Cause.FORCED_OPEN): State.OPEN for state in STATES},
    **{(state, Cause.FORCED_CLOSED): State.CLOSED for state in STATES},
    **{(state, Cause.OVERRIDE_ENDED): State.CLOSED for state in STATES},
}


class Mode(StrEnum):
    """Who decides: the breaker, or an operator."""

    AUTO = "auto"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    OBSERVE = "observe"


MODES = tuple(Mode)


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls that a breaker judges by: those in the window while closed, the probes while half-open.

    Attributes:
        calls: Calls that ended and count.
        failures: Those that failed, softly or hard.
        slow_calls: Those that took longer than ``slow_call``.
        failures_in_a_row: Hard failures since the last call that was none.
    """

    calls: int = 0
    failures: int = 0
    slow_calls: int = 0
    failures_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker changed its state.

    Attributes:
        breaker: The breaker's name.
        before: The state that was left.
        after: The state that was entered.
        cause: Why.
        counts: The calls that led to it.
        at: When, in seconds since the Unix epoch.
        note: What the operator gave as the reason of an override, or empty.
    """

    breaker: str
    before: State
    after: State
    cause: Cause
    counts: Counts
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's decision in force.

    Attributes:
        mode: Never ``auto``.
        until: When it ends by itself, in seconds since the Unix epoch.
        reason: Why it was made.
    """

    mode: Mode
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """A breaker at one moment, as the admin API shows it.

    Attributes:
        state: The state now.
        since: When it was entered, in seconds since the Unix epoch.
        reason: Why it was entered.
        counts: Those of the window while closed, of the probes while half-open, what opened it while open.
        probes_in_flight: Probes that have not ended yet.
        retry_after: Seconds until a call may be let through; 0 while closed.
        override: The override in force, if any.
    """

    state: State
    since: float
    reason: Cause
    counts: Counts
    probes_in_flight: int
    retry_after: float
    override: Override | None
