"""A worker's process, and the first process's end of its link."""

from __future__ import annotations

import asyncio
import errno

import pytest

from sidecar.settings.addresses import Address, UpstreamUrl
from sidecar.settings.model import Listener, Settings, Upstream
from sidecar.workers.commons import Commons
from sidecar.workers.messages import Apply, Done, Start
from sidecar.workers.process import WorkerProcess
from tests.support.data_path import FakeLog
from tests.unit.workers.test_worker import a_link

SETTINGS = Settings(
    listeners=(Listener(name="l", bind=Address("127.0.0.1", 0)),),
    upstreams={"app": Upstream(url=UpstreamUrl.parse("http://127.0.0.1:1"))},
    workers=2,
)


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
async def pair(log):
    commons = Commons.make(SETTINGS)
    link, theirs = await a_link()
    start = Start(number=1, settings=SETTINGS, sockets=(), log_level="info", commons=commons.handle)
    process = WorkerProcess(link, start, log)
    obeying = asyncio.create_task(process._obey())
    yield process, theirs
    theirs.close()
    await obeying
    link.close()
    await process._gateway.close()
    commons.board.close()


@pytest.fixture
def failing(pair, monkeypatch):
    """What putting a configuration in force comes to."""

    def fails(error):
        async def apply(*_):
            raise error

        monkeypatch.setattr(pair[0]._gateway, "apply", apply)

    return fails


async def test_one_that_is_ending_stands_in_no_configuration_s_way(pair, failing):
    """Its listeners are closed for good; its successor starts by what is in force then."""
    process, theirs = pair
    failing(OSError(errno.EADDRINUSE, "taken"))
    theirs.send(Apply(SETTINGS, ()))
    assert "taken" in (await theirs.receive()).problem
    process._stop.set()
    theirs.send(Apply(SETTINGS, ()))
    assert await theirs.receive() == Done("")


async def test_one_that_fails_to_do_as_it_is_told_ends(pair, failing, log):
    """It would answer nothing more, and not even notice the end of the first process."""
    process, theirs = pair
    failing(ValueError("bug"))
    theirs.send(Apply(SETTINGS, ()))
    async with asyncio.timeout(10):
        await process.until_stopped()
    assert [str(error) for error in log.crashes] == ["bug"]


async def test_one_ends_with_the_first_process(pair, log):
    process, theirs = pair
    theirs.close()
    async with asyncio.timeout(10):
        await process.until_stopped()
    assert log.crashes == []
