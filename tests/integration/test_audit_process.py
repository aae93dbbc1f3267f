"""The audit trail in the life of the process: start, reload, stop, a database or a disk that is not there."""

from __future__ import annotations

import resource
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.audit_database import AuditDatabase
from tests.support.audited import CREATED, Audited, audited, created
from tests.support.ports import free_port
from tests.support.raw import error_of
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("audit")

KIB = 1024
OLDER = (
    "CREATE TABLE request_changes (id UUID PRIMARY KEY, request_id UUID NOT NULL, "
    "change_type VARCHAR(50) NOT NULL, previous_value JSONB, new_value JSONB NOT NULL, "
    "changed_by_id UUID NOT NULL, changed_by_type VARCHAR(20) NOT NULL, correlation_id VARCHAR(100), "
    "created_at TIMESTAMPTZ NOT NULL DEFAULT NOW())"
)
EVERYTHING = {"name": "default", "match": {"prefix": "/"}, "upstream": "app"}
ROUTES = [audited("best"), audited("required", mode="required"), EVERYTHING]


@pytest.fixture
def database(postgres):
    return AuditDatabase(postgres)


@pytest.fixture
def upstream(upstream):
    upstream.reply = created()
    return upstream


def config(upstream, routes=ROUTES, **sections):
    return {"upstreams": {"app": {"url": upstream.url}}, "routes": routes, **sections}


@pytest.fixture
def start(start_sidecar, upstream):
    """Starts a sidecar before the upstream with the audit trail in a database."""

    def start(database, url="", routes=ROUTES, **sections) -> Audited:
        env = {"DATABASE_URL": url or database.application_url}
        return Audited(start_sidecar(config(upstream, routes, **sections), env=env), upstream, database)

    return start


# -- the start --------------------------------------------------------------------------------------------


def refusal(configuration, folder, env) -> str:
    """What a sidecar says that cannot start."""
    sidecar = Sidecar(configuration, folder, env=env, expect_ready=False)
    assert sidecar.process.wait() == 1
    output = sidecar.process.output()
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize("fault", ["missing", "older", "no rights"])
def test_a_table_that_could_never_take_a_row_stops_the_start(postgres, upstream, tmp_path, fault):
    database = AuditDatabase(postgres, script=fault == "no rights")
    if fault == "older":
        database.psql(OLDER)
    if fault == "no rights":
        database.psql("CREATE ROLE stranger LOGIN")
    url = postgres.url(database.name, "stranger" if fault == "no rights" else "postgres")
    said = refusal(config(upstream), tmp_path, {"DATABASE_URL": url})
    expected = {
        "missing": "the table request_changes is missing",
        "older": "the table request_changes is older and lacks outcome",
        "no rights": 'GRANT sidecar_audit_writer TO \\"stranger\\"',
    }
    assert expected[fault] in said
    assert "the audit trail cannot be kept" in said
    if fault == "no rights":
        database.psql("DROP ROLE stranger")
    else:
        assert "sql/request-changes-audit.sql" in said


def test_a_spool_that_cannot_be_opened_stops_the_start(database, upstream, tmp_path):
    (tmp_path / "spool").write_text("in the way")
    said = refusal(config(upstream), tmp_path, {"DATABASE_URL": database.application_url})
    assert "the audit trail cannot be kept" in said


def nowhere(kind: str) -> dict[str, str]:
    return {} if kind == "none" else {"DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}


@pytest.mark.parametrize("kind", ["none", "unreachable"])
def test_without_a_database_requests_are_served_and_rows_wait(database, upstream, start_sidecar, kind):
    first = start_sidecar(config(upstream), env=nowhere(kind))
    first.wait_log(lambda line: line.get("event") == "audit_database_down", "the outage")
    site = Audited(first, upstream, database)
    names = [site.call("POST", f"/{route}/x")[0] for route in ("best", "required")]
    eventually(lambda: first.metric("audit_spool_depth") == 2, "both rows wait", every=0.05)
    assert eventually(lambda: first.metric("audit_lag_seconds"), "they have waited", every=0.05) < 60
    assert first.stop() == 0
    let_it_write(config(upstream, [EVERYTHING]), first.file.parent, database)
    assert [database.row(name)["new_value"] for name in names] == [CREATED, CREATED]


def let_it_write(configuration, folder: Path, database: AuditDatabase) -> None:
    """Start a sidecar in the folder of another one, and let it write what that has left in the spool."""
    with closing(Sidecar(configuration, folder, env={"DATABASE_URL": database.application_url})) as sidecar:
        eventually(lambda: len(database.rows()) == 2, "rows are written", every=0.05)
        eventually(lambda: sidecar.metric("audit_spool_depth") == 0, "nothing waits", every=0.05)


def test_a_sidecar_without_audited_routes_loads_no_driver(start_sidecar, upstream):
    sidecar = start_sidecar(
        config(upstream, [EVERYTHING]), env={"DATABASE_URL": "postgresql://x@127.0.0.1/y"}
    )
    maps = Path(f"/proc/{sidecar.process.pid}/maps").read_text()
    assert "asyncpg" not in maps
    assert "sqlite" not in maps
    assert sidecar.metric("audit_lag_seconds") == sidecar.metric("audit_spool_depth") == 0


# -- reload and stop --------------------------------------------------------------------------------------


def test_a_reload_puts_audited_routes_in_force_changes_and_removes_them(database, upstream, start):
    site = start(database, routes=[EVERYTHING])
    unheard, _ = site.call("POST", "/best/x")
    site.sidecar.write(config(upstream))
    site.sidecar.reload()
    heard, _ = site.call("POST", "/best/x")
    assert site.row(heard)["change_type"] == "CREATED"
    site.sidecar.write(config(upstream, [audited("best", change_type="MADE"), EVERYTHING]))
    site.sidecar.reload()
    changed, _ = site.call("POST", "/best/x")
    assert site.row(changed)["change_type"] == "MADE"
    site.sidecar.write(config(upstream, [EVERYTHING]))
    site.sidecar.reload()
    unheard_again, _ = site.call("POST", "/best/x")
    assert site.sidecar.stop() == 0
    assert {unheard, unheard_again}.isdisjoint(row["correlation_id"] for row in database.rows())


def test_a_reload_is_refused_where_the_table_is_missing(postgres, upstream, start):
    database = AuditDatabase(postgres, script=False)
    site = start(database, postgres.url(database.name), routes=[EVERYTHING])
    site.sidecar.write(config(upstream))
    site.sidecar.reload()
    line = site.sidecar.wait_log(lambda line: line.get("event") == "reload failed", "the refusal")
    assert "request_changes is missing" in line["mistakes"][0]
    assert site.call("POST", "/required/x")[1].status == 201


def test_a_stop_writes_what_has_been_answered(database, start):
    site = start(database)
    names = {site.call("POST", f"/{route}/x")[0] for route in ("best", "required", "best")}
    assert site.sidecar.stop() == 0
    assert {row["correlation_id"] for row in database.rows()} == names


# -- a disk that takes no more ----------------------------------------------------------------------------


@contextmanager
def full_disk(sidecar: Sidecar):
    """No file of the process takes anything more, as on a full disk."""
    before = resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    yield
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_required_changes_and_counts_the_others(database, start, upstream):
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    site = start(database, nowhere)
    upstream.reply = created(b'{"id": "%b", "text": "%b"}' % (CREATED["id"].encode(), b"x" * 200 * KIB))
    assert site.call("POST", "/required/x")[1].status == 201
    with full_disk(site.sidecar):
        eventually(lambda: refused(site), "required changes are refused", every=0.01)
        asked = len(upstream.requests)
        answered = site.call("POST", "/required/x", "Idempotency-Key: full-disk")[1]
        assert error_of(answered)["code"] == "AUDIT_UNAVAILABLE"
        assert len(upstream.requests) == asked
        assert site.call("POST", "/best/x")[1].status == 201
        eventually(lambda: lost(site), "best-effort changes are counted", every=0.05)
    assert site.call("POST", "/required/x", "Idempotency-Key: full-disk")[1].status == 201


def refused(site: Audited) -> bool:
    return site.call("POST", "/required/x")[1].status == 503


def lost(site: Audited) -> float:
    return site.rejected("spool_full") + site.rejected("spool_unavailable")


def test_the_spool_takes_no_more_than_it_may(database, start, upstream):
    site = start(database, f"postgresql://nobody@127.0.0.1:{free_port()}/none", spool={"max_bytes": "1MiB"})
    upstream.reply = created(b'{"id": "%b", "text": "%b"}' % (CREATED["id"].encode(), b"x" * 300 * KIB))
    for _ in range(8):
        assert site.call("POST", "/best/x")[1].status == 201
    eventually(lambda: site.rejected("spool_full") >= 4, "what does not fit is counted", every=0.05)
