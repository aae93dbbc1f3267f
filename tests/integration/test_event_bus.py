"""The event bus of the library, beside a sidecar on the same Redis."""

from __future__ import annotations

from contextlib import closing

import pytest
from redis import Redis

from sidecar import DeadLetterQueue, ResilientEventBus
from tests.contract.redis_servers import KINDS, Server
from tests.support.sidecar import config_for
from tests.support.waiting import eventually

TYPE = "REQUEST_CREATED"
HOOK = "/hooks/request-created"


@pytest.fixture(params=KINDS)
def server(request, tmp_path):
    with closing(Server(request.param, tmp_path)) as server:
        yield server


async def test_what_the_library_publishes_a_sidecar_delivers(start_sidecar, upstream, server):
    subscription = {"type": TYPE, "path": HOOK, "upstream": "app"}
    start_sidecar(config_for(upstream.url, store=server.url, events={"subscriptions": [subscription]}))
    async with ResilientEventBus("requests-service", redis_url=server.url) as bus:
        published = await bus.publish(TYPE, {"id": "r-1"}, {"correlation_id": "corr-1"})
        assert (bus.stats().published, bus.stats().dead_lettered) == (1, 0)
    request = upstream.wait_request(HOOK)
    assert (request["ce-id"], request["ce-source"]) == (published.id.encode(), b"/requests-service")
    assert request["x-correlation-id"] == b"corr-1"
    eventually(lambda: request.body == b'{"id":"r-1"}', "the payload has arrived")


async def test_what_cannot_be_published_goes_where_the_service_wants_it(server, tmp_path):
    """The wrapper around a dead letter queue of one's own, as it is usually set up."""
    with closing(Server(server.kind, tmp_path)) as elsewhere:
        dlq = DeadLetterQueue(redis_url=elsewhere.url, queue_prefix="dlq:requests:", max_age_days=30)
        handed_over = []

        async def keep(event, error):
            handed_over.append(error)
            about = {
                "source_service": "requests-service",
                "correlation_id": event.metadata["correlation_id"],
            }
            await dlq.enqueue(event.event_type, event.payload, error, about)

        async with ResilientEventBus("requests-service", keep, redis_url=server.url) as bus:
            server.kill()
            for number in range(8):
                await bus.publish(TYPE, {"id": number}, {"correlation_id": f"corr-{number}"})
            stats = bus.stats()
            assert (stats.published, stats.dead_lettered) == (0, 8)
            assert stats.circuit_breaker.state.value == "open"
        records = await dlq.list(TYPE)
        assert {(it.payload["id"], it.correlation_id) for it in records} == {
            (n, f"corr-{n}") for n in range(8)
        }
        held = await dlq.dequeue(TYPE, records[0].id)
        assert held.payload == records[0].payload
        await dlq.remove(TYPE, records[0].id)
        assert len(await dlq.list(TYPE)) == len(handed_over) - 1
        await dlq.close()
        with closing(Redis.from_url(elsewhere.url)) as client:
            assert client.hlen(f"dlq:requests:{TYPE}") == 7
