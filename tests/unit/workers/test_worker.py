"""What the first process asks of a worker that is ending."""

import asyncio
import socket

import pytest

from sidecar.clock import ManualClock
from sidecar.load import Load
from sidecar.workers.link import Link, LinkLost
from sidecar.workers.messages import Done, Report, SetLogLevel, Start, Tell
from sidecar.workers.worker import Worker

REPORT = Report(Load(in_flight=0, executions=0, unwritten=0, connections={}), {})


async def a_link():
    """Both ends of a link."""
    ends = []
    for stream, side in zip(socket.socketpair(), socket.socketpair(), strict=True):
        ends.append(await Link.over(stream, side))
    return ends


@pytest.fixture
async def pair():
    """A worker, and the process's end of its link."""
    worker = Worker(1, ManualClock())
    worker._link, theirs = await a_link()
    worker._begun = True
    worker._answering = asyncio.create_task(worker._answer(worker._link))
    yield worker, theirs
    theirs.close()
    await worker._answering
    worker._link.close()


async def test_answers_come_in_the_order_of_the_requests(pair):
    worker, theirs = pair
    told, done = worker.post(Tell()), worker.post(SetLogLevel("debug"))
    for answer in (REPORT, Done("no such level")):
        theirs.send(answer)
    assert await told == worker.report == REPORT
    assert await worker.outcome(done) == "no such level"


async def test_one_that_has_ended_is_asked_nothing_although_its_end_is_not_seen_yet(pair):
    """A question without an answer would take the first answer of the process that comes after."""
    worker, theirs = pair
    before = worker.post(Tell())
    theirs.close()
    with pytest.raises(LinkLost):
        await before
    await asyncio.wait([worker._answering])
    with pytest.raises(LinkLost):
        worker.post(Tell())
    assert not worker._unanswered


async def test_the_last_report_is_no_answer_to_what_was_to_be_done(pair):
    worker, theirs = pair
    answer = worker.post(SetLogLevel("debug"))
    theirs.send(REPORT)
    with pytest.raises(LinkLost):
        await worker.outcome(answer)
    assert worker.report == REPORT


async def test_one_that_has_yet_to_be_told_to_begin_is_told_nothing_else(pair):
    """It would take a configuration, or whatever comes first, for its beginning."""
    worker, theirs = pair
    worker._begun = False
    with pytest.raises(LinkLost):
        worker.post(SetLogLevel("debug"))
    begin = Start(number=1, settings=None, sockets=(), log_level="info", commons=None)
    worker.post(begin)
    worker.post(SetLogLevel("info"))
    assert [await theirs.receive() for _ in range(2)] == [begin, SetLogLevel("info")]
