"""The recorder over a real spool, with a database that the test holds in its hand."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from sidecar.audit import delivery as delivery_module
from sidecar.audit import recorder as recorder_module
from sidecar.audit.delivery import Delivery
from sidecar.audit.hook import AuditPlan
from sidecar.audit.record import INTENTS, NIL_UUID, REJECTED, ROWS, AuditRow, Rejection
from sidecar.audit.recorder import Recorder
from sidecar.clock import ManualClock
from sidecar.errors import AuditUnavailable
from sidecar.spool import SpoolFull, SpoolUnavailable
from sidecar.spool.spool import Spool
from tests.unit.audit.support import REQUEST_ID, USER_ID, Sayings, audit_settings

RESPONSE = json.dumps({"id": REQUEST_ID}).encode()
HEADERS = {b"x-user-id": USER_ID.encode()}


class Database:
    """Holds rows in memory; can be down, and can refuse rows."""

    def __init__(self) -> None:
        self.rows: list[AuditRow] = []
        self.down: Exception | None = None
        self.refuses: set[str] = set()
        self.closed = False
        self.written = asyncio.Event()

    async def check(self) -> None:
        if self.down:
            raise self.down

    async def write(self, rows):
        await self.check()
        refused = []
        for position, payload in enumerate(rows):
            row = AuditRow.decode(payload)
            if row.correlation_id in self.refuses:
                refused.append((position, "numeric value out of range"))
            elif row.id not in {known.id for known in self.rows}:
                self.rows.append(row)
        self.written.set()
        return refused

    async def close(self) -> None:
        self.closed = True


class Trail:
    """Everything that the audit of a route is made of."""

    def __init__(self, folder) -> None:
        self.clock = ManualClock()
        self.spool = Spool(folder, clock=self.clock)
        self.database = Database()
        self.log = Sayings()
        self.rejected: Counter[str] = Counter()
        count = lambda reason: self.rejected.update([reason])  # noqa: E731 - one line is all it is
        self.pauses: list[float] = []
        self.paused = asyncio.Event()
        self.delivery = Delivery(self.spool, self.database, log=self.log, rejected=count, sleep=self.pause)
        self.recorder = Recorder(self.spool, self.delivery, log=self.log, rejected=count)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.paused.set()
        await asyncio.sleep(0)

    async def has_paused(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.pauses) < times:
                await self.paused.wait()
                self.paused.clear()

    def plan(self, **values) -> AuditPlan:
        return AuditPlan(audit_settings(**values), route="create", recorder=self.recorder, clock=self.clock)

    async def rows_in_database(self, count: int) -> list[AuditRow]:
        async with asyncio.timeout(10):
            while len(self.database.rows) < count:
                await self.database.written.wait()
                self.database.written.clear()
        return self.database.rows

    async def payloads(self, queue: str) -> list[bytes]:
        return [item.payload for item in await self.spool.peek(queue, 100)]


@asynccontextmanager
async def running(folder):
    trail = Trail(folder)
    await trail.spool.open()
    trail.recorder.start()
    yield trail
    await trail.recorder.close(5)
    await trail.spool.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(recorder_module, "_GATHER", 0)
    monkeypatch.setattr(recorder_module, "_RETRY", 0)
    monkeypatch.setattr(delivery_module, "_IDLE", 0.01)


def begin(plan: AuditPlan, correlation_id: bytes = b"corr", **options):
    return plan.begin(b"POST", correlation_id, HEADERS.get, **options)


# -- best effort ------------------------------------------------------------------------------------------


async def test_a_success_becomes_a_row(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan()
        intent = begin(plan)
        trail.clock.advance(2.5)
        plan.finish(intent, 201, RESPONSE)
        [row] = await trail.rows_in_database(1)
        assert (row.request_id, row.changed_by_id, row.outcome) == (REQUEST_ID, USER_ID, "ok")
        assert row.correlation_id == "corr"
        assert row.created_at == round((ManualClock().wall() + 2.5) * 1_000_000)
        assert row.id[14] == "7"


async def test_rows_keep_the_order_of_the_endings(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan()
        intents = [begin(plan, b"%d" % number) for number in range(1200)]
        for intent in reversed(intents):
            plan.finish(intent, 200, RESPONSE)
        rows = await trail.rows_in_database(1200)
        assert [row.correlation_id for row in rows] == [str(number) for number in reversed(range(1200))]


async def test_an_error_makes_a_row_only_where_the_route_says_so(tmp_path):
    async with running(tmp_path) as trail:
        silent, telling = trail.plan(), trail.plan(on_error="record")
        silent.finish(begin(silent, b"1"), 422, b"{}")
        telling.finish(begin(telling, b"2"), 422, b'{"error": 1}')
        telling.finish(begin(telling, b"3"), 200, RESPONSE)
        first, second = await trail.rows_in_database(2)
        assert (first.correlation_id, first.outcome, first.new_value) == ("2", "error", '{"error":1}')
        assert (second.correlation_id, second.outcome) == ("3", "ok")


async def test_an_unknown_outcome_is_recorded_as_such(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan()
        plan.finish(begin(plan), None)
        [row] = await trail.rows_in_database(1)
        assert (row.outcome, row.request_id, row.new_value) == ("unknown", NIL_UUID, "null")


async def test_a_safe_method_begins_nothing(tmp_path):
    async with running(tmp_path) as trail:
        assert not trail.plan(change_type=None).audits(b"GET")


async def test_what_cannot_become_a_row_is_kept_with_its_reason(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan()
        plan.finish(begin(plan, b"bad"), 201, b"not json")
        plan.finish(begin(plan, b"good"), 201, RESPONSE)
        await trail.rows_in_database(1)
        [payload] = await trail.payloads(REJECTED)
        kept = Rejection.decode(payload)
        assert (kept["reason"], kept["field"], kept["route"]) == ("not_json", "request_id", "create")
        assert kept["row"]["correlation_id"] == "bad"
        assert kept["row"]["changed_by_id"] == USER_ID
        assert trail.rejected == {"not_json": 1}
        assert trail.log.events == ["audit_row_rejected"]


async def test_a_rejection_has_all_that_request_and_response_told(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(changed_by_type="header:X-Kind")
        plan.finish(begin(plan), 201, RESPONSE)
        await trail.recorder.close(5)
        [payload] = await trail.payloads(REJECTED)
        kept = Rejection.decode(payload)
        assert (kept["reason"], kept["field"]) == ("header_missing", "changed_by_type")
        assert kept["row"]["outcome"] == "ok"
        assert (kept["row"]["request_id"], kept["row"]["changed_by_id"]) == (REQUEST_ID, USER_ID)


async def test_a_full_spool_loses_best_effort_rows_and_counts_them(tmp_path, monkeypatch):
    async with running(tmp_path) as trail:

        async def full(*_arguments, **_options):
            raise SpoolFull("no room")

        monkeypatch.setattr(trail.spool, "append_many", full)
        plan = trail.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        plan.finish(begin(plan), 201, b"not json")
        await trail.recorder.close(1)
        assert trail.rejected == {"spool_full": 1, "not_json": 1}
        assert set(trail.log.events) == {"audit_rows_lost", "audit_row_rejected", "audit_rejections_lost"}
        assert trail.database.rows == []


@pytest.mark.parametrize(
    ("name", "value"), [("_MAX_PENDING", 1), ("_MAX_PENDING_BYTES", 2 * len(RESPONSE) - 1)]
)
async def test_the_buffer_is_bounded_in_rows_and_in_bytes(tmp_path, monkeypatch, name, value):
    monkeypatch.setattr(recorder_module, name, value)
    async with running(tmp_path) as trail:
        plan = trail.plan()
        plan.finish(begin(plan, b"1"), 201, RESPONSE)
        plan.finish(begin(plan, b"2"), 201, RESPONSE)
        assert trail.recorder.depth() == 1
        [row] = await trail.rows_in_database(1)
        assert row.correlation_id == "1"
        assert trail.rejected == {"queue_full": 1}
        plan.finish(begin(plan, b"3"), 201, RESPONSE)
        assert len(await trail.rows_in_database(2)) == 2


# -- required ---------------------------------------------------------------------------------------------


async def test_a_required_intent_is_in_the_spool_before_the_request_goes_on(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        [payload] = await trail.payloads(INTENTS)
        row = AuditRow.decode(payload)
        assert (row.outcome, row.changed_by_id, row.request_id) == ("unknown", USER_ID, NIL_UUID)
        assert trail.database.rows == []
        await plan.settle(intent, 201, RESPONSE)
        assert await trail.payloads(INTENTS) == []
        [row] = await trail.rows_in_database(1)
        assert (row.outcome, row.request_id) == ("ok", REQUEST_ID)


async def test_a_settled_outcome_is_in_the_spool_before_the_response_is_given(tmp_path):
    async with running(tmp_path) as trail:
        trail.database.down = ConnectionRefusedError("down")
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        await plan.settle(intent, 201, RESPONSE)
        [payload] = await trail.payloads(ROWS)
        assert AuditRow.decode(payload).outcome == "ok"
        assert trail.recorder.depth() == 1
        trail.clock.advance(7)
        assert trail.recorder.lag() == 7
        trail.database.down = None
        await trail.rows_in_database(1)


@pytest.mark.parametrize("large", [b"", b" " * 50_000])
async def test_an_answer_that_makes_no_row_takes_the_intent_away(tmp_path, large):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        refused, unsent = begin(plan, body=large), begin(plan)
        await plan.secure(refused)
        await plan.secure(unsent)
        await plan.settle(refused, 409, large)
        await plan.withdraw(unsent)
        assert await trail.payloads(INTENTS) == []
        assert await trail.payloads(ROWS) == []


async def test_an_unknown_outcome_of_a_required_exchange_is_recorded(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        await plan.settle(intent, None)
        [row] = await trail.rows_in_database(1)
        assert row.outcome == "unknown"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SpoolFull("no room"), "spool_full"), (SpoolUnavailable("broken"), "spool_unavailable")],
)
async def test_without_a_durable_intent_the_request_is_refused(tmp_path, monkeypatch, error, reason):
    async with running(tmp_path) as trail:

        async def fail(*_arguments, **_options):
            raise error

        monkeypatch.setattr(trail.spool, "append", fail)
        plan = trail.plan(mode="required")
        with pytest.raises(AuditUnavailable) as caught:
            await plan.secure(begin(plan))
        assert caught.value.reason == reason
        assert trail.rejected == {reason: 1}


async def test_a_request_that_could_have_no_row_is_refused(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = plan.begin(b"POST", b"corr", {}.get)
        with pytest.raises(AuditUnavailable, match="changed_by_id: the request has no x-user-id field"):
            await plan.secure(intent)
        assert trail.rejected == {"header_missing": 1}
        assert await trail.payloads(INTENTS) == []


async def test_a_response_that_does_not_fit_is_kept_with_its_reason(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        await plan.settle(intent, 201, b'{"id": 42}')
        assert await trail.payloads(INTENTS) == []
        [payload] = await trail.payloads(REJECTED)
        assert Rejection.decode(payload)["reason"] == "not_a_uuid"
        assert trail.rejected == {"not_a_uuid": 1}


async def test_an_outcome_that_the_disk_refuses_is_written_as_soon_as_it_recovers(tmp_path, monkeypatch):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        move, failures = trail.spool.move, [SpoolFull("no room"), SpoolFull("no room")]

        async def fail_twice(*arguments):
            if failures:
                raise failures.pop()
            return await move(*arguments)

        monkeypatch.setattr(trail.spool, "move", fail_twice)
        await plan.settle(intent, 201, RESPONSE)
        assert "audit_outcome_waits" in trail.log.events
        [row] = await trail.rows_in_database(1)
        assert row.outcome == "ok"


async def test_a_client_that_leaves_while_the_intent_is_written_leaves_no_intent(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        task = asyncio.create_task(plan.secure(begin(plan)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await trail.recorder.close(5)
        assert await trail.payloads(INTENTS) == []
        assert await trail.payloads(ROWS) == []


async def test_a_client_that_leaves_while_the_disk_is_full_leaves_nothing_either(tmp_path, monkeypatch):
    async with running(tmp_path) as trail:
        reached, fails = asyncio.Event(), asyncio.Event()

        async def fail_late(*_arguments, **_options):
            reached.set()
            await fails.wait()
            raise SpoolFull("no room")

        monkeypatch.setattr(trail.spool, "append", fail_late)
        plan = trail.plan(mode="required")
        task = asyncio.create_task(plan.secure(begin(plan)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fails.set()
        await trail.recorder.close(5)
        assert await trail.payloads(INTENTS) == []


async def test_a_large_response_becomes_a_row_off_the_event_loop(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        await plan.settle(intent, 200, json.dumps({"id": REQUEST_ID, "text": "x" * 50_000}).encode())
        [row] = await trail.rows_in_database(1)
        assert len(row.new_value) > 50_000


async def test_a_client_that_leaves_while_the_outcome_is_written_changes_nothing(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan(mode="required")
        intent = begin(plan)
        await plan.secure(intent)
        task = asyncio.create_task(plan.settle(intent, 201, RESPONSE))
        await asyncio.sleep(0)
        task.cancel()
        [row] = await trail.rows_in_database(1)
        assert row.outcome == "ok"


# -- delivery ---------------------------------------------------------------------------------------------


async def test_rows_wait_for_the_database_and_come_in_order(tmp_path):
    async with running(tmp_path) as trail:
        trail.database.down = ConnectionRefusedError("down")
        plan = trail.plan()
        for number in range(20):
            plan.finish(begin(plan, b"%d" % number), 201, RESPONSE)
        await trail.has_paused(12)
        assert trail.delivery.trouble == "ConnectionRefusedError: down"
        assert trail.log.events == ["audit_rows_wait"]
        held = [pause for pause in trail.pauses if pause != 0.1]
        assert max(held) > 1
        assert max(held) <= 5
        trail.database.down = None
        rows = await trail.rows_in_database(20)
        assert [row.correlation_id for row in rows] == [str(number) for number in range(20)]
        await trail.recorder.close(5)
        assert trail.delivery.trouble == ""
        assert trail.log.events == ["audit_rows_wait", "audit_rows_written_again"]
        assert trail.database.closed


async def test_a_row_that_the_database_refuses_makes_way_for_the_others(tmp_path):
    async with running(tmp_path) as trail:
        trail.database.refuses = {"1"}
        plan = trail.plan()
        for number in range(3):
            plan.finish(begin(plan, b"%d" % number), 201, RESPONSE)
        rows = await trail.rows_in_database(2)
        assert [row.correlation_id for row in rows] == ["0", "2"]
        await trail.recorder.close(5)
        [payload] = await trail.payloads(REJECTED)
        kept = Rejection.decode(payload)
        assert (kept["reason"], kept["message"]) == ("refused_by_database", "numeric value out of range")
        assert trail.rejected == {"refused_by_database": 1}
        assert trail.recorder.depth() == 0


async def test_intents_of_a_process_that_died_become_rows_of_unknown_outcome(tmp_path):
    dead = Trail(tmp_path)
    await dead.spool.open()
    plan = dead.plan(mode="required")
    await plan.secure(begin(plan))
    dead.spool._owner._lock.release()  # what the kernel does after kill -9
    async with running(tmp_path) as trail:
        [row] = await trail.rows_in_database(1)
        assert (row.outcome, row.changed_by_id) == ("unknown", USER_ID)
        assert "audit_outcome_unknown" in trail.log.events
    await dead.spool.close()


async def test_they_stand_before_what_ended_later_though_the_database_was_away(tmp_path):
    dead = Trail(tmp_path)
    await dead.spool.open()
    plan = dead.plan(mode="required")
    ended = begin(plan, b"ended")
    await plan.secure(ended)
    await plan.settle(ended, 201, RESPONSE)
    await plan.secure(begin(plan, b"open"))
    dead.spool._owner._lock.release()  # what the kernel does after kill -9
    async with running(tmp_path) as trail:
        trail.database.down = ConnectionRefusedError("down")
        await trail.has_paused(1)
        plan = trail.plan(mode="required")
        intent = begin(plan, b"after")
        await plan.secure(intent)
        await plan.settle(intent, 201, RESPONSE)
        trail.database.down = None
        rows = await trail.rows_in_database(3)
        assert [row.correlation_id for row in rows] == ["ended", "open", "after"]
        assert [row.outcome for row in rows] == ["ok", "unknown", "ok"]
    await dead.spool.close()


async def test_a_row_that_is_delivered_twice_stands_once(tmp_path):
    async with running(tmp_path) as trail:
        plan = trail.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        [row] = await trail.rows_in_database(1)
        await trail.spool.append(ROWS, row.encode())
        trail.delivery.notify()
        await trail.recorder.close(5)
        assert trail.recorder.depth() == 0
        assert len(trail.database.rows) == 1


async def test_of_two_workers_one_delivers_for_both(tmp_path):
    async with running(tmp_path) as first, running(tmp_path) as second:
        await first.delivery.step()
        plan = second.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        await first.rows_in_database(1)
        assert await second.delivery.step() == 0
        assert second.database.rows == []


async def test_a_database_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    async with running(tmp_path) as trail:
        answers = asyncio.Event()

        async def hang(_rows):
            await answers.wait()
            return []

        monkeypatch.setattr(trail.database, "write", hang)
        plan = trail.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        await trail.recorder.close(0.05)
        assert trail.log.said == [("audit_rows_left_in_spool", {"waiting": 1})]
        answers.set()


async def test_a_task_that_dies_is_told(tmp_path, monkeypatch):
    async with running(tmp_path) as trail:

        async def broken():
            raise ZeroDivisionError

        monkeypatch.setattr(trail.recorder, "_store_batch", broken)
        plan = trail.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        await asyncio.wait(trail.recorder._tasks, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        await asyncio.sleep(0)
        [(event, fields)] = trail.log.said
        assert (event, fields["task"]) == ("audit_stopped", "audit-collect")


def test_plans_and_intents_say_what_they_are(tmp_path):
    plan = Trail(tmp_path).plan(mode="required")
    assert repr(plan) == "<AuditPlan create required>"
    assert repr(begin(plan)) == "<Intent route=create item=0 row=None>"


async def test_what_cannot_be_written_while_closing_stays_in_the_spool(tmp_path):
    async with running(tmp_path) as trail:
        trail.database.down = ConnectionRefusedError("down")
        plan = trail.plan()
        plan.finish(begin(plan), 201, RESPONSE)
        await trail.recorder.close(5)
        assert len(await trail.payloads(ROWS)) == 1
    async with running(tmp_path) as trail:
        [row] = await trail.rows_in_database(1)
        assert row.request_id == REQUEST_ID
