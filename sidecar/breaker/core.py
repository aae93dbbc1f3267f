"""The circuit breaker: who may call, and what the outcomes of the calls change.

A call asks :meth:`Breaker.admit` for a permit and ends in exactly one of :meth:`~Breaker.succeeded`,
:meth:`~Breaker.failed` and :meth:`~Breaker.cancelled`. A permit is the breaker's *word* at that moment (see
:mod:`sidecar.breaker.layout`): one comparison tells results from before a transition, which are discarded.

All that a breaker knows lies in a :class:`~sidecar.scoreboard.row.Row`, so that the workers of a sidecar can
share it. A good call on a closed breaker touches three cells and takes no lock; all else takes the row's.

Times are seconds of the monotonic clock, handed in by the caller.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final

from sidecar.breaker import layout as at
from sidecar.breaker.override import LONGEST_OVERRIDE, OverrideRecord
from sidecar.breaker.probes import Probes
from sidecar.breaker.settings import BreakerSettings
from sidecar.breaker.states import (
    CAUSES,
    STATES,
    TRANSITIONS,
    BreakerStats,
    Cause,
    Counts,
    Mode,
    Override,
    State,
    Transition,
)
from sidecar.breaker.window import SlidingWindow
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.scoreboard.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.breaker.window import WindowTotals

REFUSED: Final = 0
"""What :meth:`Breaker.admit` returns instead of a permit. Every permit is positive, hence true."""

LONGEST_OPEN_TIME: Final = 120.0
"""Seconds that the open time doubles up to, unless ``reset_timeout`` itself is longer."""

OPEN_TIME_JITTER: Final = 0.1
"""The open time is up to this share longer or shorter, so that many sidecars do not probe in step."""

_UNCOUNTED: Final = 1  # a permit of generation 0: lets the call pass, and its result never counts
_NEVER: Final = 2**62
_RANDOM: Final = SystemRandom()


def _ignore(_: Transition) -> None:
    """Nobody wants to hear of transitions."""


class Breaker:
    """One circuit breaker, for one host of an upstream.

    Safe for threads if the row's lock is one between threads; the default row's is none.

    Args:
        name: What transitions are reported under.
        settings: Thresholds and times.
        row: Where the numbers are kept; a private one by default.
        clock: For the wall-clock times in reports, and nothing else.
        random: For the jitter of the open time.
        on_transition: Called after each change of state, in the process that made it, outside every lock.
    """

    __slots__ = (
        "_cells",
        "_clock",
        "_on_transition",
        "_override",
        "_probes",
        "_random",
        "_slow_call",
        "_window",
        "name",
        "row",
        "settings",
    )

    def __init__(
        self,
        name: str = "",
        settings: BreakerSettings | None = None,
        *,
        row: Row | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Random | None = None,
        on_transition: Callable[[Transition], None] = _ignore,
    ) -> None:
        self.name = name
        self.settings = settings = settings or BreakerSettings()
        self.row = row = row or Row.private(common=at.COMMON_CELLS, own=at.OWN_CELLS)
        self._cells = row.cells
        self._clock = clock
        self._random = random or _RANDOM
        self._on_transition = on_transition
        self._override = OverrideRecord(row.cells, at.OVERRIDE)
        self._probes = Probes(row, settings.success_threshold)
        self._slow_call = math.inf if settings.slow_call is None else settings.slow_call
        self._window = SlidingWindow(
            row.cells,
            seconds=settings.window,
            mine=row.mine + at.RING,
            rings=tuple(start + at.RING for start in row.everyone),
        )
        with row.lock:
            if not row.cells[at.WORD]:  # a fresh row: no worker has used it before
                self._enter(State.CLOSED, Cause.START, clock.monotonic(), Counts())

    def __repr__(self) -> str:
        return f"<Breaker {self.name or '-'} {STATES[self._cells[at.WORD] & at.PHASE]} {self._override.mode}>"

    # The path of every call.

    def admit(self, now: float) -> int:
        """A permit to call, or :data:`REFUSED`."""
        word = self._cells[at.WORD]
        if not word & at.PHASE:
            return word
        return self._admit_unless_open(word, now)

    def succeeded(self, permit: int, now: float, duration: float) -> None:
        """The call ended well at ``now``, ``duration`` seconds after it began."""
        cells, window = self._cells, self._window
        if (
            permit == cells[at.WORD] == window.generation
            and now < window.ends
            and duration <= self._slow_call
            and not cells[at.CAREFUL]
        ):
            cells[window.calls] += 1
        else:
            self._settle(permit, now, duration, failed=False, hard=False)

    def failed(self, permit: int, now: float, duration: float, *, hard: bool = True) -> None:
        """The call failed at ``now``, ``duration`` seconds after it began.

        Args:
            permit: From :meth:`admit`.
            now: The end of the call.
            duration: Its length, in seconds.
            hard: Whether it counts for the failures in a row, too, or for the failure rate alone. A probe
                that fails reopens the breaker either way.
        """
        self._settle(permit, now, duration, failed=True, hard=hard)

    def cancelled(self, permit: int) -> None:
        """The call ended without a verdict on the upstream; a probe's permit is given back."""
        if permit & at.PHASE == at.HALF_OPEN and permit == self._cells[at.WORD]:
            with self.row.lock:
                self._probes.give_back()

    # What can be read at any moment. Reading makes a change of state happen that is due.

    def phase(self, now: float) -> int:
        """The state's number: 0 closed, 1 half-open, 2 open."""
        self._catch_up(now)
        return self._cells[at.WORD] & at.PHASE

    def state(self, now: float) -> State:
        """The state."""
        return STATES[self.phase(now)]

    def refusal(self, now: float) -> int:
        """Whole seconds, rounded up, for which every call will be refused; 0 if one might be let through."""
        cells = self._cells
        if cells[at.WORD] & at.PHASE != at.OPEN or now * 1e6 >= cells[at.DUE] or self._override.is_observing:
            return 0
        # A millisecond is the noise of the arithmetic: 30 seconds are not to become 31.
        return max(1, (cells[at.OPEN_UNTIL] - int(now * 1e6) + 998_999) // 1_000_000)

    def retry_after(self, now: float) -> float:
        """Seconds until a call may be let through: 0 while closed, 1 while half-open (others are probing)."""
        phase = self.phase(now)
        if phase == at.OPEN:
            # Whole milliseconds, lest 30 seconds and some noise of the arithmetic be rounded up to 31.
            return max(0.001, round(self._cells[at.OPEN_UNTIL] / 1e6 - now, 3))
        return 1.0 if phase == at.HALF_OPEN else 0.0

    def stats(self, now: float) -> BreakerStats:
        """Everything about the breaker, for people."""
        state = self.state(now)
        word = self._cells[at.WORD]
        mode = self._override.mode
        override = None
        if mode is not Mode.AUTO:
            override = Override(mode, self._wall(self._override.until / 1e6), self._override.reason)
        return BreakerStats(
            state=state,
            since=self._wall(self._cells[at.SINCE] / 1e6),
            reason=CAUSES[self._cells[at.CAUSE]],
            counts=self._counts(now),
            probes_in_flight=self._probes.in_flight(word),
            retry_after=self.retry_after(now),
            override=override,
        )

    def override(self, mode: Mode, now: float, *, seconds: float = 0.0, reason: str = "") -> None:
        """Take the decision from the breaker, or with ``auto`` give it back.

        Args:
            mode: ``forced_open`` refuses every call, ``forced_closed`` lets every call pass, ``observe`` goes
                through all states as usual but refuses nothing.
            now: The present.
            seconds: How long, above 0 and at most 30 days; not used by ``auto``.
            reason: Why, for those who look at the breaker later; at most 120 bytes are kept.

        Raises:
            ValueError: ``seconds`` is out of range.
        """
        if mode is not Mode.AUTO and not 0 < seconds <= LONGEST_OVERRIDE:
            raise ValueError(
                f"an override needs a time limit of at most {LONGEST_OVERRIDE:.0f} s, got {seconds}"
            )
        with self.row.lock:
            due = self._tick(now)
            change = self._enforce(mode, now, seconds, reason)
        self._tell(due)
        self._tell(change)

    # Admission and judgement.

    def _admit_unless_open(self, word: int, now: float) -> int:
        if word & at.PHASE == at.OPEN and now * 1e6 < self._cells[at.DUE]:
            return self._refusal()
        with self.row.lock:
            transition = self._tick(now)
            permit = self._take_permit()
        self._tell(transition)
        return permit

    def _take_permit(self) -> int:
        word = self._cells[at.WORD]
        if word & at.PHASE == at.CLOSED:
            return word
        if word & at.PHASE == at.HALF_OPEN and self._probes.take(word):
            return word
        return self._refusal()

    def _refusal(self) -> int:
        return _UNCOUNTED if self._override.is_observing else REFUSED

    def _settle(self, permit: int, now: float, duration: float, *, failed: bool, hard: bool) -> None:
        if permit != self._cells[at.WORD]:
            return
        with self.row.lock:
            transition = self._tick(now)
            if permit == self._cells[at.WORD]:
                slow = duration > self._slow_call
                if permit & at.PHASE == at.HALF_OPEN:
                    transition = self._judge_probe(now, failed=failed, slow=slow)
                else:
                    transition = self._judge_call(permit, now, failed=failed, hard=hard, slow=slow)
        self._tell(transition)

    def _judge_call(
        self, word: int, now: float, *, failed: bool, hard: bool, slow: bool
    ) -> Transition | None:
        cells, window = self._cells, self._window
        if window.generation != word:
            window.begin(word)
        window.add(now, failed=failed, slow=slow)
        totals = window.totals(now, word)
        run = cells[at.RUN] = cells[at.RUN] + 1 if hard else 0
        # A good call lowers every rate. It matters only if it ends a run of failures, completes the minimum
        # of calls, or begins a bucket, when older good calls have left the window.
        too_few = totals.calls < self.settings.minimum_calls
        cells[at.CAREFUL] = run or (totals.failures + totals.slow if too_few else 0)
        cause = self._cause_to_open(run, totals)
        if cause is None or self._override.mode is Mode.FORCED_CLOSED:
            return None
        return self._move(cause, now, Counts(*totals, run))

    def _cause_to_open(self, run: int, totals: WindowTotals) -> Cause | None:
        settings = self.settings
        if run >= settings.failure_threshold:
            return Cause.FAILURES_IN_A_ROW
        if totals.calls < settings.minimum_calls:
            return None
        if settings.failure_rate is not None and totals.failures >= settings.failure_rate * totals.calls:
            return Cause.FAILURE_RATE
        if totals.slow and totals.slow >= settings.slow_rate * totals.calls:
            return Cause.SLOW_CALLS
        return None

    def _judge_probe(self, now: float, *, failed: bool, slow: bool) -> Transition | None:
        cells = self._cells
        self._probes.give_back()
        cells[at.PROBES_SLOW] += slow
        if failed:
            counts = Counts(cells[at.PROBES_OK] + 1, 1, cells[at.PROBES_SLOW], 1)
            return self._move(Cause.PROBE_FAILED, now, counts)
        cells[at.PROBES_OK] += 1
        needed = self.settings.success_threshold
        if cells[at.PROBES_OK] < needed:
            return None
        slow_probes = cells[at.PROBES_SLOW]
        # An upstream that answers as slowly as when the breaker opened is not well yet.
        too_slow = slow_probes and slow_probes >= self.settings.slow_rate * needed
        cause = Cause.PROBES_SLOW if too_slow else Cause.PROBES_SUCCEEDED
        return self._move(cause, now, Counts(cells[at.PROBES_OK], 0, slow_probes, 0))

    # Changes of state.

    def _catch_up(self, now: float) -> None:
        if now * 1e6 < self._cells[at.DUE]:
            return
        with self.row.lock:
            transition = self._tick(now)
        self._tell(transition)

    def _tick(self, now: float) -> Transition | None:
        """Make happen what is due: an override's end, the end of the open time."""
        cells, override = self._cells, self._override
        transition = None
        if now * 1e6 < cells[at.DUE]:
            return None
        if override.mode is not Mode.AUTO and now * 1e6 >= override.until:
            transition = self._enforce(Mode.AUTO, override.until / 1e6, 0.0, "")
        if cells[at.WORD] & at.PHASE == at.OPEN and now * 1e6 >= cells[at.OPEN_UNTIL]:
            transition = self._move(Cause.TIME_UP, cells[at.OPEN_UNTIL] / 1e6, self._last_counts())
        return transition

    def _enforce(self, mode: Mode, now: float, seconds: float, reason: str) -> Transition | None:
        before, override = self._override.mode, self._override
        if mode is Mode.AUTO:
            override.clear()
        else:
            override.write(mode, math.ceil((now + seconds) * 1e6), reason)
        counts = self._counts(now)
        if mode is Mode.FORCED_OPEN:
            return self._move(Cause.FORCED_OPEN, now, counts, reason)
        if mode is Mode.FORCED_CLOSED:
            return self._move(Cause.FORCED_CLOSED, now, counts, reason)
        if before in (Mode.FORCED_OPEN, Mode.FORCED_CLOSED):
            return self._move(Cause.OVERRIDE_ENDED, now, counts, reason)
        self._schedule()
        return None

    def _move(self, cause: Cause, now: float, counts: Counts, note: str = "") -> Transition | None:
        cells = self._cells
        before = STATES[cells[at.WORD] & at.PHASE]
        after = TRANSITIONS[before, cause]
        self._enter(after, cause, now, counts)
        if before is after:
            return None
        return Transition(self.name, before, after, cause, counts, self._wall(now), note)

    def _enter(self, state: State, cause: Cause, now: float, counts: Counts) -> None:
        cells = self._cells
        if state is State.CLOSED:
            cells[at.REOPENED] = 0
        elif state is State.OPEN:
            cells[at.OPEN_UNTIL] = self._end_of_open_time(cause, now)
        cells[at.SINCE] = int(now * 1e6)
        cells[at.CAUSE] = CAUSES.index(cause)
        cells[at.RUN] = cells[at.CAREFUL] = cells[at.PROBES_OK] = cells[at.PROBES_SLOW] = 0
        for offset, number in enumerate(astuple(counts)):
            cells[at.LAST_COUNTS + offset] = number
        # Last, so that whoever sees the new word sees what belongs to it, too.
        cells[at.WORD] = (cells[at.WORD] & ~at.PHASE) + at.NEXT_GENERATION + STATES.index(state)
        self._schedule()

    def _end_of_open_time(self, cause: Cause, now: float) -> int:
        cells = self._cells
        if cause is Cause.FORCED_OPEN:
            return self._override.until
        if cause in (Cause.PROBE_FAILED, Cause.PROBES_SLOW):
            cells[at.REOPENED] += 1
        shortest = self.settings.reset_timeout
        longest = max(LONGEST_OPEN_TIME, shortest)
        # The exponent is bounded, because 2.0**1024 is no number.
        seconds = min(shortest * 2.0 ** min(cells[at.REOPENED], 64), longest)
        seconds *= self._random.uniform(1 - OPEN_TIME_JITTER, 1 + OPEN_TIME_JITTER)
        return math.ceil((now + seconds) * 1e6)

    def _schedule(self) -> None:
        """Work out when something changes by itself."""
        cells, override = self._cells, self._override
        due = cells[at.OPEN_UNTIL] if cells[at.WORD] & at.PHASE == at.OPEN else _NEVER
        if override.mode is not Mode.AUTO:
            due = min(due, override.until)
        cells[at.DUE] = due

    def _counts(self, now: float) -> Counts:
        cells = self._cells
        word = cells[at.WORD]
        if word & at.PHASE == at.CLOSED:
            return Counts(*self._window.totals(now, word), cells[at.RUN])
        if word & at.PHASE == at.HALF_OPEN:
            return Counts(cells[at.PROBES_OK], 0, cells[at.PROBES_SLOW], 0)
        return self._last_counts()

    def _last_counts(self) -> Counts:
        return Counts(*(self._cells[at.LAST_COUNTS + offset] for offset in range(4)))

    def _wall(self, moment: float) -> float:
        """A moment of the monotonic clock in seconds since the Unix epoch."""
        return self._clock.wall() - (self._clock.monotonic() - moment)

    def _tell(self, transition: Transition | None) -> None:
        if transition is not None:
            self._on_transition(transition)
