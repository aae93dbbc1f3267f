"""PostgreSQL stops and starts under load, and the sidecar is killed in between: every row once, in order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sidecar.audit.export import Filter, export
from sidecar.audit.verify import verify
from tests.support.pgcluster import Cluster, installations

SCRIPT = Path(__file__).parents[2] / "sql" / "request-changes-audit.sql"
WRITER = Path(__file__).with_name("audit_writer.py")


@pytest.fixture(params=installations())
def cluster(request):
    cluster = Cluster(installations()[request.param])
    cluster.run_script(SCRIPT, "postgres")
    cluster.psql("CREATE ROLE requests_service LOGIN IN ROLE sidecar_audit_writer")
    yield cluster
    cluster.close()


class Writer:
    """The process, and what it has said."""

    def __init__(self, run: str, folder: Path, database: str) -> None:
        command = [sys.executable, WRITER, run, folder, database]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.said: list[list[str]] = []

    def read(self, lines: int) -> None:
        """Let it go on until it has said so much more."""
        assert self._process.stdout is not None
        for _ in range(lines):
            self._take(self._process.stdout.readline())

    def kill(self) -> None:
        """``kill -9``; what it had said by then is taken in."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(line)
        self._process.stdout.close()
        return self._process.wait(timeout=60)

    def _take(self, line: bytes) -> None:
        if line.endswith(b"\n"):
            self.said.append(line.decode().split())


async def rows(url: str) -> list[dict]:
    return [json.loads(line) async for line in export(url, Filter())]


@pytest.mark.parametrize("crash", ["fast", "immediate"])
def test_every_row_once_and_in_order_whatever_dies(cluster, tmp_path, crash):
    application = cluster.url(user="requests_service")
    said: list[list[str]] = []

    writer = Writer("one", tmp_path, application)
    writer.read(400)
    cluster.stop(crash)
    writer.read(200)
    writer.kill()
    said += writer.said

    writer = Writer("two", tmp_path, application)  # finds no database
    writer.read(300)
    cluster.start()
    writer.read(300)
    writer.kill()
    said += writer.said

    writer = Writer("drain", tmp_path, application)
    assert writer.wait() == 0
    assert writer.said == []

    found = asyncio.run(verify(cluster.url()))
    assert found.fault == ""
    written = asyncio.run(rows(cluster.url()))
    names = [row["correlation_id"] for row in written]
    secured = {name for word, name in said if word == "secured"}
    settled = {name for word, name in said if word == "settled"}
    outcomes = {row["correlation_id"]: row["outcome"] for row in written}
    assert max(Counter(names).values()) == 1
    assert secured <= set(names)
    assert {name for name in settled if outcomes[name] != "ok"} == set()
    # Killed between the disk and the word, a client may have a row more than it said.
    assert len(set(names) - secured) <= 2 * 8
    assert len([name for name in names if outcomes[name] == "unknown"]) <= 2 * 8
    for run in ("one", "two"):
        for client in range(8):
            numbers = [
                int(name.rpartition(".")[2])
                for name in names
                if name.startswith(f"{run}.{client}.") and outcomes[name] == "ok"
            ]
            assert numbers == list(range(1, len(numbers) + 1))


def test_a_worker_takes_over_from_one_that_was_killed(cluster, tmp_path):
    application = cluster.url(user="requests_service")
    first = Writer("one", tmp_path, application)
    first.read(50)  # it delivers by now, as the only one
    second = Writer("two", tmp_path, application)
    second.read(50)
    first.kill()
    killed = asyncio.run(verify(cluster.url())).rows
    second.read(400)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # it looks once a second
        second.read(20)
        names = [row["correlation_id"] for row in asyncio.run(rows(cluster.url()))]
        if len(names) > killed + 100 and {name for word, name in first.said if word == "secured"} <= set(
            names
        ):
            break
    second.kill()
    assert {name for word, name in first.said if word == "secured"} <= set(names)
    assert max(Counter(names).values()) == 1
    assert asyncio.run(verify(cluster.url())).fault == ""
