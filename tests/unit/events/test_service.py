"""What is made when: a sidecar that has neither events nor dead letters loads nothing of them."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from sidecar.events.service import EventService
from sidecar.metrics.names import Metrics
from sidecar.metrics.registry import Registry
from sidecar.settings.model import DeadLetters, Events, Route, Settings, Subscription
from sidecar.spans import Spans
from sidecar.spool.lazy import LazySpool
from sidecar.tracing.sampling import OFF

HOOK = Subscription(type="REQUEST_CREATED", upstream="app", path="/hook")


def settings(*subscriptions, dead_letter=False, drop=(), max_age=86_400.0):
    return Settings(
        service="requests",
        routes=(Route(name="r", upstream="app", dead_letter=dead_letter),),
        events=Events(subscriptions=subscriptions),
        dead_letters=DeadLetters(drop_headers=drop, max_age=max_age),
    )


@pytest.fixture
async def service(tmp_path):
    made = []

    def make(configured):
        calls = SimpleNamespace(plan=lambda route: None)
        metrics = Metrics(Registry(service="requests"), version="1")
        spool = LazySpool(tmp_path / "spool", max_queue_bytes=1024**2)
        made.append(
            EventService(
                configured, calls=calls, spans=Spans(OFF, None), metrics=metrics, spool=spool, ask=None
            )
        )
        return made[-1]

    yield make
    for each in made:
        await each.stop_delivering(1)
        await each.close()


async def test_nothing_is_made_for_nobody(service):
    it = service(settings())
    await it.start()
    await it.refresh()
    assert repr(it) == "<EventService idle>"
    assert it.hook() is None


async def test_subscriptions_are_there_from_the_start(service):
    it = service(settings(HOOK))
    await it.start()
    assert "at work" in repr(it)
    engine = await it.engine()
    assert [target.path for target in engine.subscriptions.targets("REQUEST_CREATED")] == ["/hook"]
    assert engine is await it.engine()


async def test_the_first_event_makes_the_engine(service):
    it = service(settings())
    await it.start()
    published = await (await it.engine()).publish("T", [], b"{}", correlation_id="c-1")
    assert published.where == "streamed"


async def test_another_configuration(service):
    it = service(settings())
    await it.start()
    await it.apply(settings(HOOK))
    engine = await it.engine()
    (report,) = await engine.subscriptions.report()
    assert (report.target.upstream, report.lag, report.pending) == ("app", 0, 0)
    await it.apply(settings(HOOK, max_age=60.0))
    assert engine.dead_letters.max_age == 60
    assert "REQUEST_CREATED" in repr(engine.subscriptions)
    await it.apply(settings())
    assert engine.subscriptions.targets("REQUEST_CREATED") == []


async def test_requests_are_kept_where_a_route_wants_it(service):
    it = service(settings(dead_letter=True, drop=("X-Customer",)))
    hook = it.hook()
    assert hook.drop_headers == {"x-customer"}
    assert repr(it) == "<EventService idle>"  # the store is opened when the first one is to be kept
    await it.apply(settings(dead_letter=True))
    assert it.hook() is hook
    assert hook.drop_headers == frozenset()


def test_the_service_alone_brings_no_driver_and_no_engine():
    code = (
        "import sys, sidecar.events.service, sidecar.spool.lazy\n"
        "heavy = {'redis', 'sqlite3', 'sidecar.events.engine', 'sidecar.dlq.operator', 'aiohttp'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"
