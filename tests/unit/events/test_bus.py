import asyncio

import pytest

from sidecar.breaker.decorator import CircuitBreaker
from sidecar.correlation.current import CORRELATION_ID
from sidecar.dlq.store import QueueName, Selection
from sidecar.events.bus import BusEvent, ResilientEventBus
from sidecar.events.publisher import EventsUnavailableError
from sidecar.retry.decorator import Retry
from tests.unit.events.test_publisher import FakeStreams

TYPE = "REQUEST_CREATED"


@pytest.fixture
def streams():
    streams = FakeStreams()
    streams.closed = False

    async def close():
        streams.closed = True

    streams.close = close
    return streams


def a_bus(streams, on_failure):
    return ResilientEventBus(
        "requests-service",
        on_failure,
        streams=streams,
        retry=Retry(max_attempts=2, initial_delay=0),
        circuit_breaker=CircuitBreaker("mine", failure_threshold=3),
    )


async def test_an_event_is_published_and_counted(streams):
    async with a_bus(streams, print) as bus:
        published = await bus.publish(TYPE, {"id": 7}, {"correlation_id": "c-1"})
        assert streams.taken == [published.id]
        assert published.where == "streamed"
        stats = bus.stats()
        assert (stats.published, stats.dead_lettered, stats.refused) == (1, 0, 0)
        assert stats.circuit_breaker.state == "closed"
    assert streams.closed


async def test_what_cannot_be_published_is_handed_over_as_it_was_given(streams):
    streams.down = True
    failed = []

    async def keep(event, error):
        failed.append((event, str(error)))

    payload = {"id": 7}
    bus = a_bus(streams, keep)
    published = await bus.publish(TYPE, payload, {"correlation_id": "c-1", "id": "e-1"})
    assert published == ("e-1", "dead_lettered")
    assert failed == [(BusEvent("e-1", TYPE, payload, {"correlation_id": "c-1"}), "streams are away")]
    assert failed[0][0].payload is payload
    assert bus.stats().dead_lettered == 1
    assert "dead_lettered" in repr(bus)


async def test_a_plain_function_and_an_open_circuit(streams):
    streams.down = True
    failed = []
    bus = a_bus(streams, lambda event, error: failed.append(str(error)))
    for _ in range(4):
        await bus.publish(TYPE, {})
    assert len(streams.batches) == 3
    assert failed[-1].startswith("Circuit mine is open")
    assert bus.stats().circuit_breaker.state == "open"


async def test_a_failure_that_cannot_be_handed_over_is_told(streams):
    streams.down = True

    def broken(event, error):
        raise RuntimeError("the queue is full")

    bus = a_bus(streams, broken)
    with pytest.raises(EventsUnavailableError, match="the queue is full"):
        await bus.publish(TYPE, {})
    assert bus.stats().refused == 1


async def test_without_anything_given_events_and_dead_letters_stay_in_memory():
    bus = ResilientEventBus("requests-service")
    assert (await bus.publish(TYPE, b'{"n":1.10}')).where == "streamed"

    async def away(events):
        raise OSError("bug")

    bus._streams._capacity = 1
    assert (await bus.publish(TYPE, {})).where == "dead_lettered"
    page = await bus._dead_letters.page(QueueName("requests-service", TYPE), Selection(), limit=10)
    assert [record.origin.kind for record in page.items] == ["stream"]
    await bus.close()


async def test_the_correlation_id_of_the_request_that_is_served(streams):
    streams.down = True
    failed = []
    bus = a_bus(streams, lambda event, error: failed.append(event.metadata))
    token = CORRELATION_ID.set("c-9")
    try:
        await bus.publish(TYPE, {})
    finally:
        CORRELATION_ID.reset(token)
    assert failed == [{"correlation_id": "c-9"}]


@pytest.mark.parametrize(
    ("event_type", "payload", "metadata"),
    [
        ("", {}, {}),
        ("a b", {}, {}),
        (TYPE, object(), {}),
        (TYPE, b"no json", {}),
        (TYPE, {}, {"correlationId": "c-1"}),
        (TYPE, {}, {"correlation_id": 7}),
    ],
)
async def test_arguments_that_are_malformed(streams, event_type, payload, metadata):
    with pytest.raises(ValueError, match=r"metadata|event type|JSON"):
        await a_bus(streams, print).publish(event_type, payload, metadata)


def test_streams_of_your_own_need_a_place_for_failures(streams):
    with pytest.raises(ValueError, match="on_failure"):
        ResilientEventBus("s", streams=streams)


async def test_redis_is_loaded_where_it_is_named():
    bus = ResilientEventBus("s", redis_url="redis://127.0.0.1:1")
    assert "RedisStreams" in type(bus._streams).__name__
    assert "RedisDeadLetterStore" in repr(bus._dead_letters)
    await asyncio.wait_for(bus.close(), 5)
