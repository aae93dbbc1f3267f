"""One subscription: takes events from a feed and delivers them to a service.

Deliveries run as tasks, at most ``concurrency`` at once. There is no task that dispatches: whatever may make
a delivery possible (a new event, an end, a time) calls :meth:`Subscription.pump`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from sidecar.audit.pointer import find
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.errors import DeadLetterError
from sidecar.dlq.record import Attempt, Origin, Record
from sidecar.dlq.store import QueueName
from sidecar.events.cloudevents import idempotency_key
from sidecar.events.identity import record_id
from sidecar.events.lanes import NEVER, Held, Lanes, Parcel
from sidecar.events.stream import StreamError
from sidecar.events.verdict import LOST, Outcome, Verdict, give_up_reason, judge_error, judge_status
from sidecar.retry.backoff import Backoff
from sidecar.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.audit.pointer import Pointer
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.cloudevents import Event
    from sidecar.events.stream import Consumer, Entry

SCHEDULE: Final = Backoff(initial_delay=1.0, multiplier=3.0, max_delay=300.0)
"""Pauses between attempts: up to 1, 3, 9, 27, 81, 243 and 300 s, about five minutes for eight attempts."""

BURIAL: Final = Backoff(initial_delay=1.0, multiplier=2.0, max_delay=30.0)
"""Pauses between attempts to store a dead letter."""

LONGEST_PAUSE: Final = 5.0
"""Seconds after which a breaker is asked again, whatever it said: others may have closed it meanwhile."""

_logger = logging.getLogger(__name__)


class Deliver(Protocol):
    """Sends an event to a service, through the upstream's breaker, bulkhead and tracing."""

    async def __call__(self, event: Event, event_type: str, *, upstream: str, path: str, attempt: int) -> int:
        """The status of the answer, whose body is not wanted.

        Args:
            event: What to deliver.
            event_type: The stream that it came from.
            upstream: Name of the upstream.
            path: Where it is sent to with POST.
            attempt: Number of this attempt, from 1.

        Raises:
            SidecarError: There was no answer: ``CircuitOpen``, ``BulkheadFull``, ``UpstreamError`` …
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a subscription is.

    Attributes:
        event_type: Which events.
        upstream: Who gets them.
        path: Where they are sent to with POST.
        max_attempts: Attempts before an event becomes a dead letter.
        concurrency: Deliveries at once.
        partition: Pointer into the payload; events with the same value there are delivered in order.
        alone: Whether no other subscription of this service wants the same events.
    """

    event_type: str
    upstream: str
    path: str
    max_attempts: int = 8
    concurrency: int = 10
    partition: Pointer | None = None
    alone: bool = True

    @property
    def name(self) -> str:
        """What tells it from the other subscriptions of its type."""
        return f"{self.upstream}{self.path}"


class Subscription:
    """Delivers events.

    Args:
        target: What it is.
        service: The sidecar's service, in whose queue dead letters are.
        consumer: Where attempts are noted.
        deliver: How requests are sent.
        dead_letters: Where events go that cannot be delivered.
        settled: Called with each parcel that this subscription is done with.
        count: Called with what came of each attempt, for the metric.
        clock: Tells the time.

    Attributes:
        target: What it is.
        last_error: The last failure, or empty.
    """

    def __init__(
        self,
        target: Target,
        *,
        service: str,
        consumer: Consumer,
        deliver: Deliver,
        dead_letters: DeadLetterStore,
        settled: Callable[[Parcel], None],
        count: Callable[[str], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.target = target
        self.last_error = ""
        self._queue = QueueName(service, target.event_type)
        self._consumer = consumer
        self._deliver = deliver
        self._dead_letters = dead_letters
        self._settled = settled
        self._count = count
        self._clock = clock
        self._lanes = Lanes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._paused_until = 0.0
        self._probing = False
        self._stopping = False

    def __repr__(self) -> str:
        target = self.target
        return f"<Subscription {target.event_type} to {target.upstream}{target.path} {self._lanes}>"

    @property
    def in_flight(self) -> int:
        """Deliveries that are under way."""
        return self._lanes.in_flight

    @property
    def waiting(self) -> int:
        """Events that wait for another attempt."""
        return self._lanes.waiting

    @property
    def paused_for(self) -> float:
        """Seconds until the next probe of an upstream whose breaker is open; 0 if it is not."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def offer(self, parcel: Parcel, entry: Entry) -> None:
        """Take a parcel on. :meth:`pump` begins its delivery."""
        attempts = list(entry.attempts.get(self.target.name, ()))
        if entry.lost_by:
            attempts.append(Attempt(at=self._clock.wall(), error=f"{LOST}{entry.lost_by}", spent=False))
        self._lanes.put(Held(parcel, self._lane(parcel), attempts))

    def pump(self) -> None:
        """Begin every delivery that may begin now, and come back when the next one may."""
        now = self._clock.monotonic()
        limit = 1 if self._probing else self.target.concurrency
        while not self._stopping and now >= self._paused_until and self._lanes.in_flight < limit:
            held = self._lanes.take(now)
            if held is None:
                break
            if held.parcel.lost:
                self._settle(held)
                continue
            task = asyncio.create_task(self._handle(held), name=f"delivery of {held.parcel.entry_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._wake_at(max(self._lanes.next_due(), self._paused_until), now)

    async def stop(self, grace: float) -> None:
        """Begin nothing more; wait ``grace`` seconds for what is under way, and then cut it short."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            _done, late = await asyncio.wait(self._tasks, timeout=grace)
            await end(late)

    def _wake_at(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due != NEVER and due > now and not self._stopping:
            self._timer = asyncio.get_running_loop().call_later(due - now, self.pump)

    def _lane(self, parcel: Parcel) -> bytes:
        """What keeps events in order: the value that the pointer finds, else nothing but the event itself."""
        if self.target.partition is not None:
            try:
                value = find(orjson.loads(parcel.event.data), self.target.partition)
                return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            except (ValueError, KeyError):
                pass
        return parcel.entry_id.encode()  # no JSON value looks like it

    async def _handle(self, held: Held) -> None:
        try:
            if held.dead_letter is None:
                await self._try(held)
            else:
                await self._bury(held, held.dead_letter)
        except Exception:
            # A fault of ours must neither lose the event nor stop the others.
            event = held.parcel.event
            _logger.exception(
                "delivery of event %s failed in an unforeseen way", event.id, extra=event.log_fields
            )
            self._lanes.postpone(held, self._clock.monotonic() + SCHEDULE.max_delay)
        finally:
            self.pump()

    async def _try(self, held: Held) -> None:
        reason = give_up_reason(held.attempts, self.target.max_attempts)
        if reason:  # known from a consumer that vanished before it could store the dead letter
            await self._give_up(held, held.attempts[-1].error, reason)
            return
        started = self._clock.monotonic()
        outcome = await self._send(held)
        if outcome.verdict is Verdict.DELIVERED:
            self._probing = False
            self._count("delivered")
            self._settle(held)
        elif self._stopping or held.parcel.lost:
            # The end of this process, or of its right to the event, is no fault of the event.
            self._lanes.postpone(held, self._clock.monotonic())
        elif outcome.verdict in (Verdict.PAUSED, Verdict.CROWDED):
            self._hold_back(held, outcome)
        else:
            await self._failed(held, outcome, self._clock.monotonic() - started)

    async def _send(self, held: Held) -> Outcome:
        target = self.target
        try:
            status = await self._deliver(
                held.parcel.event,
                target.event_type,
                upstream=target.upstream,
                path=target.path,
                attempt=1 + sum(attempt.spent for attempt in held.attempts),
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the event must outlive it
            return judge_error(error)
        return judge_status(status, target.path)

    def _hold_back(self, held: Held, outcome: Outcome) -> None:
        """Nothing was sent: no attempt is spent."""
        self.last_error = outcome.error
        due = self._clock.monotonic() + min(outcome.pause, LONGEST_PAUSE)
        if outcome.verdict is Verdict.PAUSED:
            self._paused_until, self._probing = due, True
        self._count("paused")
        self._lanes.postpone(held, due)

    async def _failed(self, held: Held, outcome: Outcome, duration: float) -> None:
        self.last_error = outcome.error
        # While the breaker lets probes through, one that cannot even connect says nothing about the event.
        spent = outcome.reached or not self._probing
        self._probing = self._probing and outcome.status is None
        attempt = Attempt(
            at=self._clock.wall(), error=outcome.error, status=outcome.status, duration=duration, spent=spent
        )
        _add_attempt(held.attempts, attempt)
        reason = give_up_reason(held.attempts, self.target.max_attempts)
        if outcome.verdict is Verdict.REJECTED:
            reason = "rejected"
        if reason:
            await self._give_up(held, outcome.error, reason)
            return
        self._count("retried")
        await self._note(held)
        number = sum(1 for attempt in held.attempts if attempt.spent)
        self._lanes.postpone(held, self._clock.monotonic() + SCHEDULE.delay(max(1, number)))

    async def _note(self, held: Held) -> None:
        try:
            await self._consumer.note(held.parcel.entry_id, self.target.name, held.attempts)
        except StreamError as error:  # then a consumer that takes the event over makes some attempts more
            event = held.parcel.event
            _logger.warning("attempts at event %s are not noted: %s", event.id, error, extra=event.log_fields)

    async def _give_up(self, held: Held, error: str, reason: str) -> None:
        await self._note(held)
        held.dead_letter = self._dead_letter(held, error, reason)
        await self._bury(held, held.dead_letter)

    async def _bury(self, held: Held, record: Record) -> None:
        """Store the dead letter; only then is the event done with."""
        try:
            await self._dead_letters.add(self._queue, record)
        except DeadLetterError as error:
            held.burials += 1
            self.last_error = str(error)
            _logger.warning(
                "event %s cannot be stored as a dead letter yet: %s",
                record.idempotency_key,
                error,
                extra=held.parcel.event.log_fields,
            )
            self._lanes.postpone(held, self._clock.monotonic() + BURIAL.delay(held.burials))
            return
        self._count("dead_lettered")
        _logger.warning(
            "event %s of %s is a dead letter (%s): %s",
            held.parcel.event.id,
            self.target.event_type,
            record.reason,
            record.error,
            extra=held.parcel.event.log_fields,
        )
        self._settle(held)

    def _settle(self, held: Held) -> None:
        self._lanes.settle(held)
        self._settled(held.parcel)

    def _dead_letter(self, held: Held, error: str, reason: str) -> Record:
        event, target = held.parcel.event, self.target
        now = self._clock.wall()
        return Record(
            id=record_id(event, "" if target.alone else target.name),
            event_type=target.event_type,
            origin=Origin(kind="subscription", upstream=target.upstream, path=target.path),
            data=event.data,
            event=dict(event.attributes),
            error=error,
            reason=reason,
            attempts=tuple(held.attempts),
            source_service=self._queue.service,
            correlation_id=event.correlation_id,
            trace_id=event.trace_id,
            idempotency_key=idempotency_key(event.id).decode(),
            first_failed_at=held.attempts[0].at,
            last_failed_at=held.attempts[-1].at,
            stored_at=now,
        )


def _add_attempt(attempts: list[Attempt], attempt: Attempt) -> None:
    """Note an attempt; of probes that fail in the same way, hour after hour, the last one stands for all."""
    if attempts and not attempt.spent and not attempts[-1].spent and attempts[-1].error == attempt.error:
        attempts[-1] = attempt
    else:
        attempts.append(attempt)
