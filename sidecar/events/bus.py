"""The event bus for programs, without the sidecar: publishing that retries and loses no event silently."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.correlation import current_correlation_id
from sidecar.dlq.errors import DeadLetterError
from sidecar.dlq.record import check_event_type
from sidecar.events.burial import Burial
from sidecar.events.cloudevents import Publication, event_of
from sidecar.events.publisher import Published, Publisher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from sidecar.breaker.decorator import CircuitBreaker
    from sidecar.breaker.states import BreakerStats
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.cloudevents import Event
    from sidecar.events.stream import Streams
    from sidecar.retry.decorator import Retry

    OnFailure = Callable[["BusEvent", Exception], Awaitable[object] | object]

_METADATA: Final = ("correlation_id", "traceparent", "id")


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event on its way.

    Attributes:
        id: Tells it from all others.
        event_type: Its type.
        payload: What was published.
        metadata: What was known of it: ``correlation_id`` and, if given, ``traceparent``.
    """

    id: str
    event_type: str
    payload: Any
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BusStats:
    """What has become of the events.

    Attributes:
        published: Events in their streams.
        dead_lettered: Events that were handed to ``on_failure``, or stored as dead letters.
        refused: Events of which nothing was kept; ``publish`` has raised.
        circuit_breaker: The breaker now.
    """

    published: int
    dead_lettered: int
    refused: int
    circuit_breaker: BreakerStats


class ResilientEventBus:
    """Publishes to the same streams that sidecars deliver from.

    ::

        async def keep(event, error):
            await dlq.enqueue(event.event_type, event.payload, error, {"source_service": "requests-service"})

        bus = ResilientEventBus("requests-service", keep, redis_url="redis://localhost:6379")
        await bus.publish("REQUEST_CREATED", {"id": 7}, {"correlation_id": "c-1"})
        bus.stats()

    An event that cannot be published in spite of retries, or because the circuit is open, goes to
    ``on_failure``; without one it is stored as a dead letter, whose retry publishes it.

    Args:
        service_name: The source of the events.
        on_failure: Plain or async; when it returns, the event is taken for safe.
        redis_url: Where Redis is; without it, and without ``streams``, events stay in memory.
        streams: Streams to use in place of ``redis_url``; then ``on_failure`` is required.
        circuit_breaker: A breaker of your own; one second of reset time by default.
        retry: A retry of your own; two attempts by default.
        clock: Tells when events are published.

    Raises:
        ValueError: The URL is malformed, or ``on_failure`` is missing.
    """

    def __init__(
        self,
        service_name: str,
        on_failure: OnFailure | None = None,
        *,
        redis_url: str | None = None,
        streams: Streams | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        retry: Retry | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if streams is not None and on_failure is None:
            raise ValueError("with streams of your own, on_failure must say where failed events go")
        self._service = service_name
        self._on_failure = on_failure
        self._clock = clock
        self._streams = streams or _open_streams(redis_url, clock)
        self._dead_letters = _open_dead_letters(redis_url, clock) if on_failure is None else None
        self._payloads: dict[str, Any] = {}
        self._counts = {"streamed": 0, "dead_lettered": 0, "refused": 0}
        self._publisher = Publisher(
            self._streams,
            bury=Burial(self._dead_letters, service_name, clock) if self._dead_letters else self._hand_over,
            outbox=None,
            count=self._count,
            breaker=circuit_breaker,
            retry=retry,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<ResilientEventBus {self._service} {self._counts}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def publish(
        self, event_type: str, payload: Any, metadata: Mapping[str, str] | None = None
    ) -> Published:
        """Publish an event; returns when it is in its stream, or has been handed over.

        Args:
            event_type: 1 to 100 letters, digits, ``_``, ``.`` and ``-``.
            payload: What JSON can express; bytes are taken for JSON as it is.
            metadata: ``correlation_id`` (by default that of the request being served), ``traceparent`` and
                ``id``.

        Raises:
            ValueError: An argument is malformed.
            EventsUnavailableError: It could be stored nowhere.
        """
        event = self._event(check_event_type(event_type), payload, metadata or {})
        self._payloads[event.id] = payload
        try:
            return Published(event.id, await self._publisher.publish(event_type, event))
        finally:
            self._payloads.pop(event.id, None)

    def stats(self) -> BusStats:
        """What has become of the events so far."""
        return BusStats(
            self._counts["streamed"],
            self._counts["dead_lettered"],
            self._counts["refused"],
            self._publisher.breaker.stats(),
        )

    async def close(self) -> None:
        """Store what is being published, and close the connections."""
        await self._publisher.stop()
        await self._streams.close()
        if self._dead_letters is not None:
            await self._dead_letters.close()

    def _count(self, outcome: str) -> None:
        self._counts[outcome] += 1

    def _event(self, event_type: str, payload: Any, metadata: Mapping[str, str]) -> Event:
        for name, value in metadata.items():
            if name not in _METADATA or not isinstance(value, str):
                raise ValueError(f"metadata has the texts {', '.join(_METADATA)}; not {name!r}: {value!r}")
        publication = Publication(
            event_type=event_type,
            service=self._service,
            now=self._clock.wall(),
            correlation_id=metadata.get("correlation_id") or current_correlation_id() or "",
            traceparent=metadata.get("traceparent", ""),
        )
        return event_of(publication, _json(payload), event_id=metadata.get("id", ""))

    async def _hand_over(self, event_type: str, event: Event, error: Exception) -> None:
        """Give an event to ``on_failure``.

        Raises:
            DeadLetterError: That has failed.
        """
        assert self._on_failure is not None
        known = {"correlation_id": event.correlation_id, "traceparent": event.traceparent}
        metadata = {name: value for name, value in known.items() if value}
        told = BusEvent(event.id, event_type, self._payloads.get(event.id), metadata)
        try:
            result = self._on_failure(told, error)
            if inspect.isawaitable(result):
                await result
        except Exception as failed:
            raise DeadLetterError(f"on_failure has failed: {failed!r}") from failed


def _json(payload: Any) -> bytes:
    try:
        if isinstance(payload, bytes):
            orjson.loads(payload)
            return payload
        return orjson.dumps(payload)
    except (orjson.JSONEncodeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"the payload is not what JSON can express: {error}") from None


def _open_streams(redis_url: str | None, clock: Clock) -> Streams:
    if redis_url is None:
        from sidecar.events.memory import MemoryStreams  # noqa: PLC0415 - only what is used is loaded

        return MemoryStreams(clock=clock)
    from sidecar.events.streams import RedisStreams  # noqa: PLC0415 - Redis only where it is used

    return RedisStreams(redis_url, clock=clock)


def _open_dead_letters(redis_url: str | None, clock: Clock) -> DeadLetterStore:
    if redis_url is None:
        from sidecar.dlq.memory import MemoryDeadLetterStore  # noqa: PLC0415

        return MemoryDeadLetterStore(clock=clock)
    from sidecar.dlq.connect import open_redis  # noqa: PLC0415
    from sidecar.dlq.redis import RedisDeadLetterStore  # noqa: PLC0415

    return RedisDeadLetterStore(open_redis(redis_url), clock=clock)
