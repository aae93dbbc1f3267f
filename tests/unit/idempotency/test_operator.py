import pytest

from sidecar.errors import IdempotencyKeyInvalid
from sidecar.idempotency.core import Loss, State
from sidecar.idempotency.operator import Operator, RecordBusyError, RecordNotFoundError
from sidecar.idempotency.policy import RoutePolicy
from sidecar.idempotency.record import Response
from tests.unit.idempotency.stores import POLICY, sidecars


@pytest.fixture
async def here():
    return sidecars()[0]


@pytest.fixture
def operator(here):
    return Operator(here.engine.store, {POLICY.route: POLICY})


async def test_records_are_listed_by_state_and_route(here, operator):
    await here.ask(b"a")
    await (await here.ask(b"b")).mark_unknown(Loss.RESET)
    page = await operator.page(state=State.UNKNOWN, route="orders")
    assert [record.state for record in page.items] == [State.UNKNOWN]
    assert (await operator.page(route="other")).items == []
    assert len((await operator.page()).items) == 2
    for limit in (0, 1001):
        with pytest.raises(ValueError, match="limit is 1 to 1000"):
            await operator.page(limit=limit)


async def test_a_record_is_found_by_route_key_and_caller(here, operator):
    policy = RoutePolicy(service="shop", route="orders", scope=(b"authorization", b"x-tenant"))
    operator = Operator(here.engine.store, {"orders": policy})
    record_id = policy.record_id([[b"Bearer a"], []], b"k")
    execution = await here.engine.claim(
        policy, record_id, await here.engine.fingerprint(policy, b"POST", b"/", b"", b""), "c"
    )
    found = await operator.find("orders", b'"k"', {"Authorization": "Bearer a", "X-Other": "1"})
    assert found.id == execution.claim.record_id
    for route, headers in (("orders", {}), ("nowhere", {"authorization": "Bearer a"})):
        with pytest.raises(RecordNotFoundError):
            await operator.find(route, b"k", headers)
    with pytest.raises(IdempotencyKeyInvalid):
        await operator.find("orders", b"", {})


async def test_an_unknown_outcome_is_released_or_resolved(here, operator):
    first, second = await here.ask(b"a"), await here.ask(b"b")
    await first.mark_unknown(Loss.RESET)
    here.clock.advance(10.0)
    await operator.release(first.claim.record_id)
    headers = [(b"Location", b"/1"), (b"Date", b"today")]
    await operator.resolve(second.claim.record_id, status=201, headers=headers, body=b"ok")
    with pytest.raises(RecordNotFoundError):
        await operator.get(first.claim.record_id)
    record = await operator.get(second.claim.record_id)
    assert record.response == Response(201, ((b"Location", b"/1"),), b"ok")


async def test_a_record_of_a_route_that_is_gone_is_resolved_too(here):
    execution = await here.ask()
    await execution.mark_unknown(Loss.RESET)
    operator = Operator(here.engine.store, {})
    await operator.resolve(execution.claim.record_id, status=200, headers=[], body=b"")
    assert (await operator.get(execution.claim.record_id)).state is State.COMPLETED


@pytest.mark.parametrize("step", ["running", "completed"])
async def test_what_runs_or_is_completed_cannot_be_decided(here, operator, step):
    execution = await here.ask()
    if step == "completed":
        await execution.complete(200, [], b"")
    with pytest.raises(RecordBusyError):
        await operator.release(execution.claim.record_id)
    with pytest.raises(RecordBusyError):
        await operator.resolve(execution.claim.record_id, status=200, headers=[], body=b"")


async def test_what_is_not_there_cannot_be_decided(operator):
    for decide in (
        operator.release("0" * 64),
        operator.resolve("0" * 64, status=200, headers=[], body=b""),
    ):
        with pytest.raises(RecordNotFoundError):
            await decide


@pytest.mark.parametrize(
    ("status", "headers"), [(199, []), (600, []), (200, [(b"a\r", b"")]), (200, [(b"a", b"b\nc")])]
)
async def test_a_resolution_must_be_a_response(operator, status, headers):
    with pytest.raises(ValueError, match=r"status|header"):
        await operator.resolve("0" * 64, status=status, headers=headers, body=b"")
