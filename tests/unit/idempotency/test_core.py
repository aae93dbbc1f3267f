import pytest

from sidecar.idempotency.core import TRANSITIONS, Match, State, Step, Verdict, judge
from sidecar.idempotency.record import Record, Response


def record(state, response=None):
    return Record("id", state, b"t", b"f", "route", "correlation", 0.0, response=response)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (record(State.EXECUTING), Verdict.IN_PROGRESS),
        (record(State.UNKNOWN), Verdict.UNKNOWN),
        (record(State.COMPLETED, Response(201, (), b"")), Verdict.REPLAY),
        (record(State.COMPLETED, Response(201, (), None)), Verdict.NOT_REPLAYABLE),
    ],
)
def test_what_a_finder_is_told(found, verdict):
    assert judge(found, Match.SAME) is verdict
    assert judge(found, Match.UNDECIDED) is verdict
    assert judge(found, Match.OTHER) is Verdict.CONFLICT


def test_only_a_claim_starts_an_execution_in_an_empty_place():
    assert [step for (state, step) in TRANSITIONS if state is None] == [Step.CLAIM]


def test_nothing_leaves_completed():
    assert not [step for (state, step) in TRANSITIONS if state is State.COMPLETED]


def test_only_a_claim_or_the_routes_wish_leads_to_an_execution():
    leading = {step for (_, step), after in TRANSITIONS.items() if after is State.EXECUTING}
    assert leading == {Step.CLAIM, Step.REEXECUTE}
