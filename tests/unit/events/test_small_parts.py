"""What follows from an event or an outcome without any I/O."""

import pytest

from sidecar.dlq.record import Attempt
from sidecar.errors import BulkheadFull, CircuitOpen, UpstreamTimeout, UpstreamUnreachable
from sidecar.events.cloudevents import Event
from sidecar.events.codec import CodecError, decode, encode
from sidecar.events.identity import record_id
from sidecar.events.lanes import NEVER, Held, Lanes, Parcel
from sidecar.events.verdict import LOST, MAX_LOST, Verdict, give_up_reason, judge_error, judge_status
from tests.unit.events.events import TYPE, an_event

UUID = "0190b0a0-0000-7000-8000-000000000001"


def test_records_are_named_after_their_event_where_nothing_else_can_have_the_name():
    assert record_id(an_event(UUID)) == UUID
    other = record_id(an_event(UUID), "/hooks/a")
    assert other != UUID
    assert other == record_id(an_event(UUID), "/hooks/a") != record_id(an_event(UUID), "/hooks/b")
    one, two = (Event({"id": "7", "source": source}, b"") for source in ("/a", "/b"))
    assert record_id(one) != record_id(two)


def test_events_as_bytes_and_back():
    event = an_event("é\n", b'{"a":\n1.10}\n\xff')
    assert decode(encode(TYPE, event)) == (TYPE, event)


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"no json\nx", b"[]\nx", b'{"v":2,"stream":"T","attributes":{}}\nx', b'{"v":1}\nx', b"7\nx"],
)
def test_bytes_that_are_no_event(value):
    with pytest.raises(CodecError):
        decode(value)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (204, Verdict.DELIVERED),
        (301, Verdict.REJECTED),
        (400, Verdict.REJECTED),
        (404, Verdict.REJECTED),
        (408, Verdict.AGAIN),
        (409, Verdict.REJECTED),
        (425, Verdict.AGAIN),
        (429, Verdict.AGAIN),
        (500, Verdict.AGAIN),
        (503, Verdict.AGAIN),
    ],
)
def test_answers(status, verdict):
    outcome = judge_status(status, "/hook")
    assert (outcome.verdict, outcome.status) == (verdict, status)
    assert bool(outcome.error) == (verdict is not Verdict.DELIVERED)


def test_attempts_without_an_answer():
    paused = judge_error(CircuitOpen("open", retry_after=7.0))
    assert (paused.verdict, paused.pause, paused.reached) == (Verdict.PAUSED, 7.0, False)
    crowded = judge_error(BulkheadFull("full"))
    assert (crowded.verdict, crowded.pause, crowded.reached) == (Verdict.CROWDED, 1.0, False)
    assert judge_error(UpstreamUnreachable("refused", sent=False)).reached is False
    timeout = judge_error(UpstreamTimeout("slow", sent=True))
    assert (timeout.verdict, timeout.reached) == (Verdict.AGAIN, True)
    assert timeout.error == "UPSTREAM_TIMEOUT: slow"
    assert judge_error(RuntimeError("bug")).error == "RuntimeError('bug')"


def test_when_to_give_up():
    spent, unspent = Attempt(at=0, error="503"), Attempt(at=0, error="open", spent=False)
    lost = Attempt(at=0, error=f"{LOST}host-1", spent=False)
    assert give_up_reason([spent] * 7 + [unspent] * 9, 8) == ""
    assert give_up_reason([spent] * 8, 8) == "attempts_exhausted"
    assert give_up_reason([lost] * MAX_LOST, 8) == ""
    assert give_up_reason([lost] * (MAX_LOST + 1), 8) == "consumers_lost"


def held(lane, name=""):
    return Held(Parcel(name, an_event(name or "e"), 1), lane, [])


def test_events_of_one_lane_go_one_after_another():
    lanes = Lanes()
    first, second, other = held(b"a", "1"), held(b"a", "2"), held(b"b", "3")
    for each in (first, second, other):
        lanes.put(each)
    assert [lanes.take(0), lanes.take(0), lanes.take(0)] == [first, other, None]
    assert lanes.in_flight == 2
    lanes.settle(first)
    assert lanes.take(0) is second
    lanes.settle(second)
    lanes.settle(other)
    assert (lanes.in_flight, lanes.take(0)) == (0, None)


def test_a_lane_waits_with_its_first_event():
    lanes = Lanes()
    first, second = held(b"a", "1"), held(b"a", "2")
    lanes.put(first)
    lanes.put(second)
    assert lanes.next_due() == NEVER
    lanes.take(0)
    lanes.postpone(first, 5)
    assert (lanes.take(4), lanes.waiting, lanes.next_due()) == (None, 1, 5)
    assert "1 waiting" in repr(lanes)
    assert lanes.take(5) is first


def test_equal_times_keep_their_order():
    lanes = Lanes()
    each = [held(b"%d" % number, str(number)) for number in range(3)]
    for one in each:
        lanes.put(one)
        lanes.take(0)
        lanes.postpone(one, 1)
    assert [lanes.take(1) for _ in each] == each
