"""The audit trail on real PostgreSQL: what the script makes, what it refuses, and what verification finds."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from sidecar.audit.chain import Mark
from sidecar.audit.export import Filter, export
from sidecar.audit.hook import AuditPlan
from sidecar.audit.postgres import AuditTableError, PostgresWriter
from sidecar.audit.reading import ReadError
from sidecar.audit.record import AuditRow
from sidecar.audit.service import start_audit
from sidecar.audit.verify import verify
from sidecar.ids import uuid7_of
from sidecar.spool.spool import Spool
from tests.support.audit_database import APPLICATION, SCRIPT, AuditDatabase
from tests.support.pgcluster import Cluster, installations
from tests.unit.audit.support import REQUEST_ID, USER_ID, Sayings, audit_settings

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.audit.recorder import Recorder

# To the letter what the first users of request_changes created, and a guard as they may have had it.
SEED_TABLE = """
CREATE TABLE request_changes (
    id UUID PRIMARY KEY,
    request_id UUID NOT NULL,
    change_type VARCHAR(50) NOT NULL,
    previous_value JSONB,
    new_value JSONB NOT NULL,
    changed_by_id UUID NOT NULL,
    changed_by_type VARCHAR(20) NOT NULL,
    correlation_id VARCHAR(100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
"""
SEED_GUARD = """
CREATE FUNCTION no_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'immutable'; END $$;
CREATE TRIGGER no_change BEFORE UPDATE OR DELETE ON request_changes FOR EACH ROW EXECUTE FUNCTION no_change();
"""
SEED_INSERT = """
INSERT INTO request_changes (id, request_id, change_type, new_value, changed_by_id, changed_by_type)
SELECT gen_random_uuid(), gen_random_uuid(), 'CREATED', '{{"n": {0}}}', gen_random_uuid(), 'USER'
FROM generate_series(1, {0})
"""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(f"audit {name}")) for name in installations()],
)
def cluster(request):
    cluster = Cluster(installations()[request.param])
    yield cluster
    cluster.close()


@pytest.fixture
def database(cluster):
    return AuditDatabase(cluster)


def make_row(number: int = 0, **values) -> AuditRow:
    row = AuditRow(
        id=str(uuid.uuid4()),
        request_id=str(uuid.uuid4()),
        change_type="CREATED",
        previous_value=None,
        new_value=f'{{"amount":10.10,"number":{number},"name":"Ærø \\u2028 \U0001f600"}}',
        changed_by_id=str(uuid.uuid4()),
        changed_by_type="USER",
        correlation_id=f"corr-{number}",
        created_at=1_764_000_000_123_457 + number,
        outcome="ok",
    )
    for name, value in values.items():
        setattr(row, name, value)
    return row


async def write(url: str, *rows: AuditRow) -> list[tuple[int, str]]:
    writer = PostgresWriter(url)
    try:
        return await writer.write([row.encode() for row in rows])
    finally:
        await writer.close()


async def lines(url: str, chosen: Filter = Filter()) -> list[dict]:  # noqa: B008 - frozen, and has no state
    return [json.loads(line) async for line in export(url, chosen)]


# -- what the script makes --------------------------------------------------------------------------------


async def test_the_script_can_be_run_again_without_harm(database):
    await write(database.application_url, make_row(1))
    before = database.psql("SELECT * FROM request_changes")
    database.run_script()
    assert database.psql("SELECT * FROM request_changes") == before
    await write(database.application_url, make_row(2))
    assert (await verify(database.url)).rows == 2


def test_the_table_has_every_column_of_the_first_one_unchanged(cluster, database):
    columns = (
        "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_name = 'request_changes' ORDER BY ordinal_position"
    )
    seed = AuditDatabase(cluster, script=False)
    seed.psql(SEED_TABLE)
    expected = seed.psql(columns).splitlines()
    assert database.psql(columns).splitlines()[: len(expected)] == expected


async def test_an_older_table_is_brought_up_to_date_with_its_rows(cluster):
    database = AuditDatabase(cluster, script=False)
    database.psql(SEED_TABLE + SEED_GUARD + SEED_INSERT.format(7))
    database.run_script()
    await write(database.application_url, make_row())
    found = await verify(database.url)
    assert (found.rows, found.fault) == (8, "")
    assert "immutable" in database.psql("DELETE FROM request_changes", expect=1)


async def test_rows_that_somebody_inserts_by_hand_are_chained_too(database):
    database.psql(SEED_INSERT.format(3))
    database.psql(SEED_INSERT.format(2))
    found = await verify(database.url)
    assert (found.rows, found.fault) == (5, "")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
async def test_the_chain_does_not_depend_on_settings_of_a_session(database, zone):
    database.psql(f"ALTER DATABASE {database.name} SET timezone = '{zone}'")
    database.psql(f"ALTER DATABASE {database.name} SET datestyle = 'SQL, DMY'")
    database.psql(f"ALTER DATABASE {database.name} SET bytea_output = 'escape'")
    await write(database.application_url, make_row(1), make_row(2, created_at=-1), make_row(3, created_at=0))
    assert (await verify(database.url)).rows == 3


# -- what it refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", ["UPDATE request_changes SET change_type = 'X'", "DELETE FROM request_changes"]
)
@pytest.mark.parametrize("role", ["postgres", APPLICATION])
async def test_nobody_changes_a_row(database, role, change):
    await write(database.application_url, make_row())
    message = database.psql(f"SET ROLE {role}; {change}", expect=1)
    assert ("immutable audit trail" if role == "postgres" else "permission denied") in message
    assert "immutable audit trail" in database.psql(
        f"SET session_replication_role = replica; {change}", expect=1
    )
    assert (await verify(database.url)).rows == 1


@pytest.mark.parametrize("role", ["postgres", APPLICATION])
async def test_nobody_truncates_the_table(database, role):
    await write(database.application_url, make_row())
    for command in ("TRUNCATE request_changes", "TRUNCATE request_changes CASCADE"):
        message = database.psql(f"SET ROLE {role}; {command}", expect=1)
        assert ("immutable audit trail" if role == "postgres" else "permission denied") in message
    assert (await verify(database.url)).rows == 1


@pytest.mark.parametrize(
    "command",
    [
        "SELECT * FROM request_changes",
        "SELECT * FROM request_changes_chain",
        "UPDATE request_changes_chain SET head_seq = 0",
        "DELETE FROM request_changes_chain",
        "ALTER TABLE request_changes DISABLE TRIGGER ALL",
        "DROP TABLE request_changes",
    ],
)
def test_the_application_can_add_rows_and_no_more(database, command):
    assert (
        "must be owner" in (message := database.psql(f"SET ROLE {APPLICATION}; {command}", expect=1))
        or "permission denied" in message
    )


async def test_nobody_chooses_a_place_in_the_chain(database):
    await write(database.application_url, make_row())
    database.psql(
        f"SET ROLE {APPLICATION}; INSERT INTO request_changes VALUES (gen_random_uuid(), gen_random_uuid(), "
        "'X', NULL, '{}', gen_random_uuid(), 'USER', NULL, now(), 'ok', 77, "
        "decode('aa', 'hex'), decode('bb', 'hex'))"
    )
    found = await verify(database.url)
    assert (found.rows, found.head.seq, found.fault) == (2, 2, "")


def test_a_table_of_the_same_name_does_not_mislead_the_triggers(database):
    database.psql(
        f"GRANT TEMPORARY ON DATABASE {database.name} TO {APPLICATION}; SET ROLE {APPLICATION}; "
        "CREATE TEMPORARY TABLE request_changes_chain (only_row bool, head_seq bigint, head_hash bytea); "
        "INSERT INTO request_changes_chain VALUES (true, 99, ''); "
        + SEED_INSERT.format(1).replace("INTO request_changes", "INTO public.request_changes")
    )
    assert database.psql("SELECT seq FROM request_changes") == "1"


# -- writing ----------------------------------------------------------------------------------------------


async def test_rows_are_written_once_and_in_order_however_often_they_come(database):
    rows = [make_row(number) for number in range(50)]
    await write(database.application_url, *rows[:30])
    await write(database.application_url, *rows[10:])
    await write(database.application_url, *rows)
    written = await lines(database.url)
    assert [line["id"] for line in written] == [row.id for row in rows]
    assert [line["seq"] for line in written] == list(range(1, 51))
    assert (await verify(database.url)).fault == ""


async def test_every_value_arrives_as_it_was_sent(database):
    row = make_row(
        previous_value='{"sum":0.1234567890123456789,"big":123456789012345678901234567890}',
        outcome="unknown",
        correlation_id=None,
    )
    await write(database.application_url, row)
    [line] = await lines(database.url)
    assert line["new_value"] == json.loads(row.new_value)
    stored = database.psql("SELECT previous_value->>'sum', previous_value->>'big' FROM request_changes")
    assert stored == "0.1234567890123456789|123456789012345678901234567890"
    assert (line["correlation_id"], line["outcome"]) == (None, "unknown")
    assert line["created_at"] == "2025-11-24T16:00:00.123457+00:00"


async def test_many_writers_make_one_chain(database):
    async def one_writer(number: int) -> None:
        writer = PostgresWriter(database.application_url)
        for batch in range(10):
            await writer.write([make_row(1000 * number + 10 * batch + row).encode() for row in range(7)])
        await writer.close()

    await asyncio.gather(*(one_writer(number) for number in range(6)))
    found = await verify(database.url)
    assert (found.rows, found.head.seq, found.fault) == (420, 420, "")


async def test_a_transaction_that_is_rolled_back_leaves_no_gap(database):
    await write(database.application_url, make_row(1))
    database.psql(f"BEGIN; {SEED_INSERT.format(5)}; ROLLBACK")
    await write(database.application_url, make_row(2))
    found = await verify(database.url)
    assert (found.rows, found.fault) == (2, "")


async def test_rows_that_the_database_refuses_do_not_hold_up_the_others(database):
    rows = [make_row(number) for number in range(9)]
    rows[2].new_value = "1e200000"
    database.psql("ALTER TABLE request_changes ADD CONSTRAINT not_5 CHECK (correlation_id <> 'corr-5')")
    rows[8].change_type = "X" * 51
    refused = await write(database.application_url, *rows)
    assert [position for position, _ in refused] == [2, 5, 8]
    assert [line["correlation_id"] for line in await lines(database.url)] == [
        f"corr-{n}" for n in (0, 1, 3, 4, 6, 7)
    ]
    assert (await verify(database.url)).fault == ""


async def test_a_connection_that_breaks_is_made_again(database):
    writer = PostgresWriter(database.application_url)
    await writer.write([make_row(1).encode()])
    database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{APPLICATION}'")
    row = make_row(2).encode()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await writer.write([row])
    await writer.write([row])
    await writer.close()
    assert (await verify(database.url)).rows == 2


async def test_a_statement_that_takes_too_long_is_given_up_and_written_later(database):
    writer = PostgresWriter(database.application_url, timeout=0.3)
    await writer.check()
    holder = await asyncpg.connect(database.url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT * FROM request_changes_chain FOR UPDATE")
    row = make_row().encode()
    with pytest.raises(TimeoutError):
        await writer.write([row])
    await transaction.rollback()
    await holder.close()
    await writer.write([row])
    await writer.close()
    assert (await verify(database.url)).rows == 1


# -- a table that is not as it should be ------------------------------------------------------------------


async def told(url: str) -> str:
    writer = PostgresWriter(url)
    with pytest.raises(AuditTableError) as caught:
        await writer.check()
    await writer.close()
    return str(caught.value)


async def test_a_missing_table_is_told(cluster):
    database = AuditDatabase(cluster, script=False)
    assert "request_changes is missing" in await told(database.url)
    with pytest.raises(ReadError, match="does not exist: run sql/request-changes-audit"):
        await verify(database.url)


async def test_an_older_table_is_told(cluster):
    database = AuditDatabase(cluster, script=False)
    database.psql(SEED_TABLE)
    assert "is older and lacks outcome, prev_hash, row_hash, seq" in await told(database.url)


async def test_a_role_without_rights_is_told(database):
    database.psql("REVOKE INSERT ON request_changes FROM sidecar_audit_writer")
    assert f'GRANT sidecar_audit_writer TO "{APPLICATION}"' in await told(database.application_url)


async def test_a_table_without_its_guards_is_told(database):
    database.psql("ALTER TABLE request_changes DISABLE TRIGGER request_changes_refuse_change")
    assert "lacks its triggers request_changes_refuse_change" in await told(database.application_url)


async def test_verifying_needs_the_right_to_read(database):
    with pytest.raises(ReadError, match="GRANT SELECT ON request_changes, request_changes_chain"):
        await verify(database.application_url)


async def test_an_unreachable_database_is_told():
    with pytest.raises(ReadError, match="cannot be reached"):
        await verify("postgresql://nobody@127.0.0.1:1/none")


# -- starting ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def recording(folder: Path, database: str | None):
    """A recorder at work, and what it has logged."""
    log = Sayings()
    spool = Spool(folder)
    await spool.open()
    try:
        recorder = await start_audit(spool, database, log=log, rejected=log.info)
        yield recorder, log
        await recorder.close(10)
    finally:
        await spool.close()


def change(recorder: Recorder) -> None:
    plan = AuditPlan(audit_settings(changed_by_id=USER_ID), route="create", recorder=recorder)
    intent = plan.begin(b"POST", b"corr", {}.get)
    plan.finish(intent, 201, json.dumps({"id": REQUEST_ID}).encode())


@pytest.mark.parametrize("nowhere", [None, "postgresql://nobody@127.0.0.1:1/none"])
async def test_without_a_database_rows_wait_until_there_is_one(database, tmp_path, nowhere):
    async with recording(tmp_path, nowhere) as (recorder, log):
        change(recorder)
        assert log.events == ["audit_database_down"]
    async with recording(tmp_path, database.application_url) as (recorder, log):
        assert recorder.depth() == 1
    assert log.events == []
    [line] = await lines(database.url)
    assert line["request_id"] == REQUEST_ID


async def test_a_table_that_could_never_take_a_row_stops_the_start(cluster, tmp_path):
    database = AuditDatabase(cluster, script=False)
    with pytest.raises(AuditTableError, match="request_changes is missing"):
        async with recording(tmp_path, database.url):
            pass


# -- what a superuser can do, and how it is found ---------------------------------------------------------


@pytest.fixture
async def written(database):
    """A database with ten rows."""
    await write(database.application_url, *(make_row(number) for number in range(10)))
    return database


@pytest.mark.parametrize(
    "edit",
    [
        "new_value = '{}'",
        "previous_value = 'null'",
        "change_type = 'DELETED'",
        "request_id = gen_random_uuid()",
        "changed_by_id = gen_random_uuid()",
        "changed_by_type = 'ADMIN'",
        "correlation_id = NULL",
        "created_at = created_at + interval '1 microsecond'",
        "outcome = 'error'",
        "id = gen_random_uuid()",
        "row_hash = sha256('forged')",
    ],
)
async def test_an_edit_is_found(written, edit):
    written.tamper(f"UPDATE request_changes SET {edit} WHERE seq = 4")
    found = await verify(written.url)
    assert found.rows == 3
    assert found.fault.startswith("row 4 (id ")
    assert found.fault.endswith("was changed: its contents do not give its hash")


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("seq = 1", "row 1 is missing: after row 0 comes row 2 "),
        ("seq IN (5, 6)", "rows 5 to 6 are missing: after row 4 comes row 7 "),
        ("seq = 10", "row 10 is missing: the trail ends with row 9"),
        ("true", "rows 1 to 10 are missing: the trail ends with row 0"),
    ],
)
async def test_a_removal_is_found(written, where, fault):
    written.tamper(f"DELETE FROM request_changes WHERE {where}")
    assert (await verify(written.url)).fault.startswith(fault)


async def test_a_truncation_is_found(written):
    written.tamper("TRUNCATE request_changes")
    assert (await verify(written.url)).fault == "rows 1 to 10 are missing: the trail ends with row 0"


async def test_a_removal_is_still_found_when_more_rows_have_come(written):
    written.tamper("DELETE FROM request_changes WHERE seq > 8")
    await write(written.application_url, make_row(11))
    assert (await verify(written.url)).fault.startswith("rows 9 to 10 are missing: after row 8 comes row 11 ")


async def test_an_exchange_of_two_rows_is_found(written):
    written.tamper("UPDATE request_changes SET seq = -1 WHERE seq = 3")
    written.tamper("UPDATE request_changes SET seq = 3 WHERE seq = 7")
    written.tamper("UPDATE request_changes SET seq = 7 WHERE seq = -1")
    found = await verify(written.url)
    assert found.fault.startswith("row 3 (id ")
    assert "out of order" in found.fault


async def test_an_exchange_with_the_links_made_to_fit_is_found(written):
    written.tamper(
        "UPDATE request_changes a SET seq = -b.seq, prev_hash = b.prev_hash, row_hash = b.row_hash "
        "FROM request_changes b WHERE (a.seq, b.seq) IN ((3, 7), (7, 3))"
    )
    written.tamper("UPDATE request_changes SET seq = -seq WHERE seq < 0")
    found = await verify(written.url)
    assert found.fault.startswith("row 3 (id ")
    assert "was changed" in found.fault


async def test_a_chain_cut_short_with_its_record_is_found_by_a_noted_row(written):
    noted = (await verify(written.url)).head
    written.tamper(
        "DELETE FROM request_changes WHERE seq > 5; "
        "UPDATE request_changes_chain SET (head_seq, head_hash) = "
        "(SELECT seq, row_hash FROM request_changes WHERE seq = 5)"
    )
    assert (await verify(written.url)).fault == ""
    assert "row 10 is missing: it was noted" in (await verify(written.url, anchors=[noted])).fault


async def test_a_lost_record_of_the_chain_is_told(written):
    written.psql("DELETE FROM request_changes_chain")
    with pytest.raises(ReadError, match="request_changes_chain is empty"):
        await verify(written.url)


# -- retirement, as docs/audit.md describes it ------------------------------------------------------------


def rows_of(moment: datetime, number: int) -> list[AuditRow]:
    """Rows as a sidecar makes them at that moment: the ids begin with the time."""
    milliseconds = int(moment.timestamp() * 1000)
    return [make_row(each, id=uuid7_of(milliseconds + each, os.urandom(10))) for each in range(number)]


async def test_old_rows_are_retired_by_detaching_their_partition(database):
    documentation = (SCRIPT.parents[1] / "docs" / "audit.md").read_text()
    partition, retire = (block.split("```")[0] for block in documentation.split("```sql\n")[1:3])
    await write(database.application_url, *rows_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 10))
    database.psql(partition)
    database.run_script()
    await write(database.application_url, *rows_of(datetime(2027, 1, 1, tzinfo=UTC), 2))
    await write(
        database.application_url, *rows_of(datetime(2026, 12, 31, 23, 58, tzinfo=UTC), 1)
    )  # was long under way
    await write(database.application_url, *rows_of(datetime(2028, 5, 1, tzinfo=UTC), 4))
    found = await verify(database.url)
    assert (found.rows, found.fault) == (17, "")
    assert "immutable audit trail" in database.psql("DELETE FROM request_changes", expect=1)
    assert "immutable audit trail" in database.psql(
        "UPDATE request_changes_2027 SET outcome = 'error'", expect=1
    )

    database.psql(retire)
    found = await verify(database.url)
    assert (found.rows, found.head.seq, found.fault) == (4, 17, "")
    await write(database.application_url, *rows_of(datetime(2028, 6, 1, tzinfo=UTC), 1))
    assert (await verify(database.url)).head.seq == 18
    database.tamper("DELETE FROM request_changes WHERE seq = 15")
    assert (await verify(database.url)).fault.startswith("row 15 is missing")


# -- the command line -------------------------------------------------------------------------------------


def sidecar(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar", "audit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_verify_says_how_it_is_and_exits_accordingly(written):
    whole = sidecar("verify", "--database", written.url)
    assert whole.returncode == 0
    assert whole.stdout.startswith("10 rows are whole; the last one is 10:")
    anchor = whole.stdout.split()[-1]
    assert sidecar("verify", "--database", written.url, "--anchor", anchor).returncode == 0
    written.tamper("UPDATE request_changes SET change_type = 'FORGED' WHERE seq = 4")
    broken = sidecar("verify", "--database", written.url)
    assert broken.returncode == 1
    assert broken.stdout.startswith("3 rows are whole, then: row 4 (id ")
    unreadable = sidecar("verify", "--database", written.application_url)
    assert (unreadable.returncode, unreadable.stdout) == (2, "")
    assert "permission denied" in unreadable.stderr


async def test_export_prints_the_chosen_rows(written):
    everything = sidecar("export", "--database", written.url)
    assert [json.loads(line)["seq"] for line in everything.stdout.split("\n")[:-1]] == list(range(1, 11))
    [request_id] = [line["request_id"] for line in await lines(written.url, Filter(correlation_id="corr-6"))]
    chosen = sidecar("export", "--database", written.url, "--request-id", request_id)
    [line] = chosen.stdout.split("\n")[:-1]
    assert json.loads(line)["correlation_id"] == "corr-6"
    span = sidecar("export", "--database", written.url, "--since", "2026-01-01", "--until", "2026-01-02")
    assert (span.returncode, span.stdout) == (0, "")
    assert sidecar("export", "--database", written.url, "--request-id", "x").returncode == 2


async def test_progress_is_told_on_a_long_chain(database):
    database.psql(SEED_INSERT.format(20_000))
    told: list[tuple[int, int]] = []
    found = await verify(database.url, progress=lambda done, total: told.append((done, total)))
    assert told == [(10_000, 20_000), (20_000, 20_000)]
    assert found.rows == 20_000
    assert isinstance(found.head, Mark)
