"""A database with the audit trail's table."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.pgcluster import Cluster

SCRIPT = Path(__file__).parents[2] / "sql" / "request-changes-audit.sql"
APPLICATION = "requests_service"

_numbers = count()
_TEMPLATE = "audit_template"


def _template(cluster: Cluster) -> str:
    """A database that others are copied from: the script is run once in a cluster."""
    if not cluster.psql(f"SELECT 1 FROM pg_database WHERE datname = '{_TEMPLATE}'"):
        cluster.psql(f"CREATE DATABASE {_TEMPLATE}")
        _set_up(cluster, _TEMPLATE)
    return _TEMPLATE


def _set_up(cluster: Cluster, database: str) -> None:
    cluster.run_script(SCRIPT, database)
    if cluster.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{APPLICATION}'") == "0":
        cluster.psql(f"CREATE ROLE {APPLICATION} LOGIN IN ROLE sidecar_audit_writer")


class AuditDatabase:
    """A database with the audit trail's table, and a login role that may only add to it."""

    def __init__(self, cluster: Cluster, *, script: bool = True) -> None:
        self.cluster = cluster
        self.name = f"audit{next(_numbers)}"
        self.url = cluster.url(self.name)
        self.application_url = cluster.url(self.name, APPLICATION)
        like = f" TEMPLATE {_template(cluster)}" if script else ""
        cluster.psql(f"CREATE DATABASE {self.name}{like}")

    def run_script(self) -> None:
        """Set the table up, as an operator does, and the role."""
        _set_up(self.cluster, self.name)

    def psql(self, sql: str, *, expect: int = 0) -> str:
        """Run SQL as the superuser."""
        return self.cluster.psql(sql, self.name, expect=expect)

    def tamper(self, sql: str) -> None:
        """Do what only a superuser can: change the table behind its triggers' back."""
        self.psql(
            f"ALTER TABLE request_changes DISABLE TRIGGER ALL; {sql}; "
            "ALTER TABLE request_changes ENABLE TRIGGER ALL"
        )

    def rows(self, correlation_id: str | None = None) -> list[dict[str, Any]]:
        """The rows so far, of one call or all of them, in the order of the chain."""
        found = self.psql(
            "SELECT row_to_json(r) FROM request_changes r "
            + (f"WHERE correlation_id = '{correlation_id}' " if correlation_id else "")
            + "ORDER BY seq"
        )
        return [json.loads(line) for line in found.splitlines()]

    def row(self, correlation_id: str) -> dict[str, Any]:
        """The one row of a call, which is there soon."""
        found = eventually(
            lambda: self.rows(correlation_id), f"a row of the call {correlation_id}", every=0.05
        )
        assert len(found) == 1, found
        return found[0]
