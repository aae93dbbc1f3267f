"""The real sidecar under load: PostgreSQL stops for a time, and the sidecar is killed in between."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.support.audit_database import AuditDatabase
from tests.support.audited import CREATED, USER, audited, created
from tests.support.pgcluster import Cluster, installations
from tests.support.sidecar import Sidecar
from tests.support.upstream import Upstream
from tests.support.waiting import eventually

CLIENTS = 4
ROUTES = [audited("best"), audited("required", mode="required")]


@pytest.fixture
def cluster():
    with closing(Cluster(installations()["embedded"])) as cluster:
        yield cluster


class Load:
    """Clients that each send one change after another until stopped, and note which were answered."""

    def __init__(self, port: int, run: str) -> None:
        self.answered: list[str] = []
        self._port = port
        self._run = run
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(client,)) for client in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _send(self, client: int) -> None:
        route = "best" if client == 0 else "required"
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
            for number in count(1):
                if self._stop.is_set():
                    return
                name = f"{self._run}.{route}.{client}.{number}"
                try:
                    headers = {"X-User-ID": USER, "X-Correlation-ID": name}
                    connection.request("POST", f"/{route}/x", headers=headers)
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException):
                    return  # the sidecar was killed
                assert response.status == 201
                self.answered.append(name)

    def until(self, answered: int) -> None:
        """Wait until so many changes have been answered."""
        eventually(lambda: len(self.answered) >= answered, f"{answered} changes are answered")

    def stop(self) -> list[str]:
        """No more; the names of those that were answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        return self.answered


def test_every_change_has_its_row_once_and_in_order_whatever_dies(cluster, tmp_path):
    database = AuditDatabase(cluster)
    with Upstream(created()) as upstream:
        config = {"upstreams": {"app": {"url": upstream.url}}, "routes": ROUTES}
        env = {"DATABASE_URL": database.application_url}

        first = Sidecar(config, tmp_path, env=env)
        load = Load(first.port, "one")
        load.until(150)
        cluster.stop("immediate")
        load.until(300)
        first.process.kill()
        answered = load.stop()

        second = Sidecar(config, tmp_path, env=env)  # finds no database, and what the first one has left
        load = Load(second.port, "two")
        load.until(150)
        cluster.start()
        load.until(300)
        answered += load.stop()
        eventually(lambda: second.metric("audit_spool_depth") == 0, "every row is written", every=0.1)
        second.close()

    rows = database.rows()
    outcomes = {row["correlation_id"]: row["outcome"] for row in rows}
    names = [row["correlation_id"] for row in rows]
    assert max(Counter(names).values()) == 1
    required = {name for name in answered if ".required." in name}
    assert {outcomes.get(name) for name in required} == {"ok"}
    unknown = [name for name in names if outcomes[name] == "unknown"]
    assert len(unknown) <= CLIENTS  # under way when the sidecar was killed
    assert {name for name in answered if name.startswith("two.")} <= set(names)
    for run in ("one", "two"):
        for client in range(1, CLIENTS):
            mine = [name for name in names if name.startswith(f"{run}.required.{client}.")]
            numbers = [int(name.rpartition(".")[2]) for name in mine if outcomes[name] == "ok"]
            assert numbers == list(range(1, len(numbers) + 1))
    assert all(row["new_value"] == CREATED for row in rows if row["outcome"] == "ok")
    assert verify(database) == 0


def verify(database: AuditDatabase) -> int:
    """Exit status of ``sidecar audit verify``."""
    command = [sys.executable, "-m", "sidecar", "audit", "verify"]
    environment = {**os.environ, "DATABASE_URL": database.url}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    return done.returncode
