"""What the first process decides, with workers that do as the test says."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

import pytest

from sidecar.clock import ManualClock
from sidecar.load import Connections, Load
from sidecar.log import Log
from sidecar.metrics.registry import Registry
from sidecar.settings.addresses import Address, UpstreamUrl
from sidecar.settings.model import Listener, ListenerTls, Settings, Upstream
from sidecar.workers import front
from sidecar.workers.commons import Commons
from sidecar.workers.link import LinkLost
from sidecar.workers.messages import Apply, Done, Report, SetLogLevel, Start
from sidecar.workers.restarts import MOST_FAILED_STARTS, Restarts
from tests.support.ports import free_port

PLACE = Address("127.0.0.1", 0)


def settings(*ports, tls=None, workers=2):
    listeners = tuple(
        Listener(name=f"l{number}", bind=Address("127.0.0.1", port), tls=tls)
        for number, port in enumerate(ports)
    )
    upstream = Upstream(url=UpstreamUrl.parse("http://127.0.0.1:1"))
    return Settings(listeners=listeners, upstreams={"app": upstream}, workers=workers, store="redis://r")


def figures(requests):
    registry = Registry(service="s")
    registry.counter("requests_total", "Requests.").labels().value = requests
    registry.gauge("active", "Active.").labels().value = requests
    return registry.snapshot()


def value(snapshot, name):
    return next(family for family in snapshot if family.description.name == name).samples[()]


class FakeWorker:
    """A worker whose process is a future; ``answers`` are its next ones, after which it agrees to all."""

    def __init__(self, number, clock):
        self.number = number
        self.ready = False
        self.report = None
        self.restarts = Restarts(clock)
        self.pid = None
        self.asked = []
        self.answers = deque()
        self.lives = 0
        self.dies_at_start = False
        self.linked = asyncio.Event()
        self.linked.set()
        self.end = None

    async def spawn(self, descriptors):
        self.lives += 1
        self.pid = 1000 * self.number + self.lives
        self.end = asyncio.get_running_loop().create_future()
        await self.linked.wait()

    def post(self, request, descriptors=()):
        if self.pid is None:
            raise LinkLost("no process")
        self.asked.append(request)
        return self.answers.popleft() if self.answers else ""

    async def outcome(self, answer):
        if self.dies_at_start:
            self.die(3)
            raise LinkLost("gone")
        if isinstance(answer, Exception):
            raise answer
        return await answer if isinstance(answer, asyncio.Future) else answer

    async def look(self):
        pass

    async def ended(self):
        code = await self.end
        self.ready, self.pid = False, None
        return code

    def die(self, code=-9):
        if self.end is not None and not self.end.done():
            self.end.set_result(code)

    def terminate(self):
        self.die(0)

    kill = die


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def fakes():
    return []


@pytest.fixture
def pauses():
    return []


@pytest.fixture
async def workers(monkeypatch, clock, fakes, pauses):
    def make(number, clock):
        fakes.append(FakeWorker(number, clock))
        return fakes[-1]

    really_sleep = asyncio.sleep

    async def sleep(seconds):
        if seconds != front._LOOK_SECONDS:
            pauses.append(seconds)
            await really_sleep(0)
        else:
            await asyncio.Event().wait()

    monkeypatch.setattr(front, "Worker", make)
    monkeypatch.setattr(front.asyncio, "sleep", sleep)
    commons = Commons.make(settings(0))
    lost = []
    them = front.Workers(2, commons, Log(service="s", fd=2), lost=lambda: lost.append(True), clock=clock)
    them.lost = lost
    yield them
    them.close()
    await them.kill()
    commons.board.close()


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0)
    raise AssertionError("it never came to that")


def requests_of(worker, kind):
    return [request for request in worker.asked if isinstance(request, kind)]


async def test_all_of_them_begin_with_the_configuration_and_sockets_of_their_own(workers, fakes):
    assert workers.not_ready() == "worker 1, 2 is not ready"
    await workers.update(settings(0))
    assert workers.not_ready() == ""
    assert workers.busy == 2
    for number, fake in enumerate(fakes, 1):
        (start,) = requests_of(fake, Start)
        assert (start.number, start.sockets, start.log_level) == (number, ((PLACE, 1),), "info")
    assert len(workers.addresses) == 1


async def test_one_that_ends_is_replaced_and_starts_by_what_is_in_force_then(workers, fakes, clock):
    await workers.update(settings(0))
    later = settings(0, 0)
    clock.advance(60)
    await workers.update(later)
    fakes[0].die()
    await until(lambda: fakes[0].lives == 2 and fakes[0].ready)
    assert requests_of(fakes[0], Start)[-1].settings.listeners == later.listeners
    assert fakes[1].lives == 1


async def test_the_figures_of_those_that_ended_are_kept(workers, fakes, clock):
    await workers.update(settings(0))
    idle = Load(0, 0, 0, {})
    fakes[0].report, fakes[1].report = Report(idle, figures(10)), Report(idle, figures(5))
    merged = await workers.snapshot(figures(1))
    assert (value(merged, "requests_total"), value(merged, "active")) == (16, 16)
    fakes[0].die()
    await until(lambda: fakes[0].lives == 2)
    merged = await workers.snapshot(figures(1))
    assert (value(merged, "requests_total"), value(merged, "active")) == (16, 6)
    fakes[0].report = Report(idle, figures(2))
    assert value(await workers.snapshot(figures(1)), "requests_total") == 18


async def test_loads_add_up(workers, fakes):
    await workers.update(settings(0))
    hosts = {("app", "h"): Connections(2, 1)}
    fakes[0].report = Report(Load(1, 2, 3, hosts), ())
    assert await workers.load(Load(1, 0, 0, hosts)) == Load(2, 2, 3, {("app", "h"): Connections(4, 2)})


async def test_what_a_dead_one_held_is_given_back(workers, fakes):
    await workers.update(settings(0))
    other = Commons(workers._commons.handle, 1)
    row = other.board.row("permits:app", common=2, own=4)
    row.cells[row.mine] = 3
    assert row.total(0) == 3
    fakes[0].die()
    await until(lambda: fakes[0].lives == 2)
    assert row.total(0) == 0


async def test_where_one_refuses_all_go_back(workers, fakes):
    await workers.update(settings(0))
    fakes[1].answers.append("out of luck")
    with pytest.raises(OSError, match="worker 2: out of luck"):
        await workers.update(settings(0, 0))
    assert [len(request.settings.listeners) for request in requests_of(fakes[0], Apply)] == [2, 1]
    assert len(workers.addresses) == 1
    await workers.update(settings(0))


async def test_who_goes_back_has_the_address_again_that_it_gave_up(workers, fakes):
    await workers.update(settings(0))
    fakes[1].answers.append("out of luck")
    with pytest.raises(OSError, match="worker 2: out of luck"):
        await workers.update(settings(free_port()))
    assert requests_of(fakes[0], Apply)[-1].sockets == ((PLACE, 1),)
    assert workers._places.keys() == {PLACE}


async def test_where_there_are_no_more_sockets_all_go_back(workers, fakes, monkeypatch):
    await workers.update(settings(0))
    places, sockets = [], front.Place.sockets

    def scarce(place):
        places.append(place)
        if len(places) == 2:
            raise OSError("too many open files")
        return sockets(place)

    monkeypatch.setattr(front.Place, "sockets", scarce)
    with pytest.raises(OSError, match="worker 2: too many open files"):
        await workers.update(settings(0, free_port()))
    assert [len(request.settings.listeners) for request in requests_of(fakes[0], Apply)] == [2, 1]


async def test_one_that_cannot_go_back_is_replaced(workers, fakes):
    await workers.update(settings(0))
    fakes[0].answers += ["", "out of luck as well"]
    fakes[1].answers.append("out of luck")
    with pytest.raises(OSError, match="worker 2: out of luck"):
        await workers.update(settings(0, free_port()))
    await until(lambda: fakes[0].lives == 2 and fakes[0].ready)
    assert len(requests_of(fakes[0], Start)[-1].settings.listeners) == 1


async def test_one_that_dies_meanwhile_holds_nobody_up(workers, fakes):
    await workers.update(settings(0))
    fakes[1].answers.append(LinkLost("gone"))
    await workers.update(settings(0, 0))
    assert len(workers.addresses) == 2


async def test_only_new_addresses_come_with_a_configuration(workers, fakes):
    port = free_port()
    await workers.update(settings(0))
    await workers.update(settings(0, port))
    assert requests_of(fakes[0], Apply)[-1].sockets == ((Address("127.0.0.1", port), 1),)


async def test_an_address_that_is_taken_or_a_bad_certificate_reaches_no_worker(workers, fakes, tmp_path):
    await workers.update(settings(0))
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="cannot listen on"),
    ):
        await workers.update(settings(0, taken.getsockname()[1]))
    (empty := tmp_path / "empty.pem").write_text("")
    with pytest.raises(OSError, match=r".+"):
        await workers.update(settings(0, tls=ListenerTls(cert=str(empty), key=str(empty))))
    assert requests_of(fakes[0], Apply) == []


async def test_one_that_cannot_start_at_first_ends_it_all(workers, fakes, pauses):
    fakes[0].dies_at_start = True
    with pytest.raises(OSError, match="worker 1 does not start: exit code 3"):
        await workers.update(settings(0))
    assert fakes[0].lives == MOST_FAILED_STARTS
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    assert workers.busy == 0


async def test_one_that_cannot_start_again_ends_it_too(workers, fakes):
    await workers.update(settings(0))
    fakes[1].dies_at_start = True
    fakes[1].die()
    await until(lambda: workers.failure)
    assert (workers.failure, workers.lost) == ("worker 2 does not start: exit code 3", [True])


async def test_after_the_end_nobody_is_replaced(workers, fakes):
    await workers.update(settings(0))
    workers.close()
    await until(lambda: workers.busy == 0)
    assert [fake.lives for fake in fakes] == [1, 1]
    assert not workers.lost


async def test_one_that_was_just_being_replaced_is_not_told_to_serve_after_the_end(workers, fakes):
    await workers.update(settings(0))
    fakes[0].linked.clear()
    fakes[0].die()
    await until(lambda: fakes[0].lives == 2)
    workers.close()
    fakes[0].linked.set()
    await until(lambda: workers.busy == 0)
    assert (workers.failure, workers.lost) == ("", [])
    assert len(requests_of(fakes[0], Start)) == 1


async def test_the_end_may_come_while_a_configuration_is_put_in_force(workers, fakes):
    await workers.update(settings(0))
    answer = asyncio.get_running_loop().create_future()
    fakes[0].answers.append(answer)
    updating = asyncio.create_task(workers.update(settings(0, free_port())))
    await until(lambda: requests_of(fakes[0], Apply))
    workers.close()
    answer.set_result("")
    with pytest.raises(OSError, match="the workers are ending"):
        await updating
    assert requests_of(fakes[1], Apply) == []


async def test_the_end_may_come_while_addresses_are_looked_up(workers, monkeypatch):
    await workers.update(settings(0))
    reserve, taken, found = front.Place.reserve, [], asyncio.Event()

    async def slow(address):
        taken.append(await reserve(address))
        await found.wait()
        return taken[-1]

    monkeypatch.setattr(front.Place, "reserve", slow)
    updating = asyncio.create_task(workers.update(settings(free_port(), 0)))
    await until(lambda: taken)
    workers.close()
    found.set()
    with pytest.raises(OSError, match="the workers are ending"):
        await updating
    assert [sock.fileno() for place in taken for sock in place._binding.sockets] == [-1] * len(taken)


async def test_a_keeper_that_fails_does_not_go_unseen(workers, fakes, monkeypatch):
    await workers.update(settings(0))

    async def broken(_):
        raise MemoryError("no room")

    monkeypatch.setattr(fakes[0], "spawn", broken)
    fakes[0].die()
    await until(lambda: workers.failure)
    assert workers.failure == "worker 1 is not looked after any more: no room"


async def test_a_log_level_reaches_those_that_are_there(workers, fakes):
    await workers.update(settings(0))
    fakes[1].pid = None
    await workers.set_log_level("debug")
    fakes[1].pid = 1
    assert requests_of(fakes[0], SetLogLevel) == [SetLogLevel("debug")]
    assert Done().problem == ""
