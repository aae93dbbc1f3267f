"""Rows of upstreams that are gone make room for others, but not while a request still counts in them."""

from __future__ import annotations

import pytest

from sidecar.gateway import Gateway
from sidecar.idempotency.sent import SentKeys
from sidecar.log import Log
from sidecar.scoreboard.shared import Scoreboard, nameless_file
from sidecar.settings.addresses import UpstreamUrl
from sidecar.settings.model import Match, Route, Settings, Upstream
from sidecar.settings.restart import RestartNeeded
from sidecar.workers.commons import Commons, CommonsHandle

ROWS = 8  # an upstream with one host needs three


class Front:
    """Faces nobody; refuses what it is told to."""

    busy = 0
    refuses = False

    async def update(self, settings):
        if self.refuses:
            raise OSError("no")


def settings(name):
    route = Route(name="r", match=Match(prefix="/"), upstream=name, idempotency=None)
    return Settings(
        upstreams={name: Upstream(url=UpstreamUrl.parse("http://127.0.0.1:1"))}, routes=(route,), workers=2
    )


@pytest.fixture
async def gateway():
    board = Scoreboard.make(2, ROWS)
    commons = Commons(CommonsHandle(board.handle, nameless_file(SentKeys.size()), b"sidecar-1"), 0)
    gateway = Gateway(settings("first"), Log(service="s", level="error", fd=2), commons)
    yield gateway
    gateway.deadlines.close()
    board.close()


async def test_upstreams_may_come_and_go(gateway):
    for number in range(20):
        await gateway.apply(settings(f"u{number}"), Front())


async def test_refused_configurations_leave_nothing_behind(gateway):
    front = Front()
    front.refuses = True
    for number in range(20):
        with pytest.raises(OSError, match="no"):
            await gateway.apply(settings(f"u{number}"), front)
    assert list(gateway.pipeline.upstreams) == ["first"]


async def test_a_row_stays_while_a_request_counts_in_it(gateway):
    (first,) = gateway.pipeline.upstreams.values()
    first.budget.request_started()
    assert first.permits.try_acquire()
    await gateway.apply(settings("second"), Front())
    with pytest.raises(RestartNeeded, match="all 8 rows are in use"):
        await gateway.apply(settings("third"), Front())
    first.permits.release()
    first.budget.request_ended()
    await gateway.apply(settings("third"), Front())


async def test_an_upstream_that_comes_back_finds_its_numbers(gateway):
    (first,) = gateway.pipeline.upstreams.values()
    first.budget.request_started()
    await gateway.apply(settings("second"), Front())
    await gateway.apply(settings("first"), Front())
    assert gateway.pipeline.upstreams["first"].budget.active == 1
    first.budget.request_ended()
    assert gateway.pipeline.upstreams["first"].budget.active == 0
