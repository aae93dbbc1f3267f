"""`sidecar dlq` before a real sidecar: tables for people, JSON for scripts, exit codes for both."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.pair import STEADY
from tests.support.ports import free_port
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import Upstream

TYPE = "HTTP_REQUEST"

pytestmark = pytest.mark.xdist_group("dlq command")


@pytest.fixture(scope="module")
def port():
    """Where the upstream will be, once it is there."""
    return free_port()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, port):
    config = config_for(f"http://127.0.0.1:{port}")
    config["upstreams"]["app"] |= STEADY
    config["routes"][0]["dead_letter"] = True
    with closing(Sidecar(config, tmp_path_factory.mktemp("sidecar"))) as sidecar:
        yield sidecar


@pytest.fixture
def sidecar(shared):
    """As if it had just been started: there are no dead letters, and its breaker is left alone."""
    for record in shared.get(f"/admin/dlq/{TYPE}?limit=1000").json()["items"]:
        shared.ask("DELETE", f"/admin/dlq/{TYPE}/{record['id']}?reason=test").raise_for_status()
    shared.ask("PUT", "/admin/upstreams/app/breaker", json={"mode": "auto"}).raise_for_status()
    return shared


@pytest.fixture
def dlq(sidecar):
    def run(*arguments, admin=None, text=None):
        command = [sys.executable, "-m", "sidecar", "dlq", *arguments, "--admin", admin or sidecar.admin]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)

    return run


def fail(sidecar, count=1, **fields):
    ids = []
    for number in range(count):
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        with sidecar.client() as client:
            response = client.request("POST", "/pay", *lines, body=b'{"n": %d}' % number)
        ids.append(response["x-dead-letter-id"].decode())
    return ids


def test_nothing_to_list(dlq):
    assert (dlq("list").stdout, dlq("list", "--json").stdout) == ("no dead letters\n", "[]\n")
    assert dlq("list", TYPE).stdout == "no dead letters\n"


def test_queues_and_records(sidecar, dlq):
    ids = fail(sidecar, 3)
    queues = dlq("list").stdout.splitlines()
    assert queues[0].split() == ["service", "event_type", "depth", "oldest_at"]
    assert queues[1].split()[:3] == ["sidecar", TYPE, "3"]
    records = dlq("list", TYPE, "--limit", "2").stdout.splitlines()
    assert records[0].split() == ["id", "stored_at", "reason", "attempts", "status", "error"]
    assert [line.split()[0] for line in records[1:]] == [ids[2], ids[1]]
    assert "UPSTREAM_UNREACHABLE: the upstream cannot be reached" in records[1]
    listed = json.loads(dlq("list", TYPE, "--json").stdout)
    assert [record["id"] for record in listed] == ids[::-1]


def test_filters(sidecar, dlq):
    fail(sidecar, X_Correlation_ID="c-1")
    ids = fail(sidecar, X_Correlation_ID="c-2")
    listed = json.loads(dlq("list", TYPE, "--correlation-id", "c-2", "--json").stdout)
    assert [record["id"] for record in listed] == ids
    assert json.loads(dlq("list", TYPE, "--since", listed[0]["stored_at"], "--json").stdout) == listed
    assert json.loads(dlq("list", TYPE, "--service", "other", "--json").stdout) == []
    bad = dlq("list", TYPE, "--since", "yesterday")
    assert (bad.returncode, "yesterday" in bad.stderr) == (1, True)


def test_one_record_whole(sidecar, dlq):
    (record_id,) = fail(sidecar)
    shown = json.loads(dlq("show", TYPE, record_id).stdout)
    assert (shown["id"], shown["request"]["body"]) == (record_id, '{"n": 0}')
    missing = dlq("show", TYPE, "nothing")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "no dead letter nothing" in missing.stderr


def test_a_retry(sidecar, dlq, port):
    (record_id,) = fail(sidecar)
    failed = dlq("retry", TYPE, record_id, "--reason", "perhaps now")
    assert failed.returncode == 1
    assert "UPSTREAM_UNREACHABLE" in failed.stderr
    with Upstream(port=port) as upstream:
        done = dlq("retry", TYPE, record_id, "--reason", "it is back")
        assert (done.returncode, done.stdout) == (0, f"{record_id} is delivered and removed\n")
        assert len(upstream.requests) == 1
    assert dlq("retry", TYPE, record_id).returncode == 1


def test_many(sidecar, dlq, port):
    ids = fail(sidecar, 3)
    dry = dlq("retry", TYPE, "--all", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "3 of 3 tried: 3 would retry\n")
    failed = dlq("retry", TYPE, "--all")
    assert (failed.returncode, failed.stdout) == (1, "3 of 3 tried: 3 failed\n")
    assert failed.stderr.count("UPSTREAM_UNREACHABLE") == 3
    with Upstream(port=port) as upstream:
        some = dlq("retry", TYPE, "--all", "--limit", "1", "--json")
        assert json.loads(some.stdout)["delivered"] == 1
        done = dlq("retry", TYPE, "--all")
        assert (done.returncode, done.stdout) == (0, "2 of 2 tried: 2 delivered\n")
        assert [request.body for request in upstream.requests] == [b'{"n": %d}' % n for n in range(len(ids))]
    assert dlq("retry", TYPE, "--all").stdout == "0 of 0 tried: nothing to do\n"


def test_many_stop_behind_an_open_breaker(sidecar, dlq):
    fail(sidecar, 3)
    content = {"mode": "forced_open", "for": "1m", "reason": "test"}
    sidecar.ask("PUT", "/admin/upstreams/app/breaker", json=content)
    stopped = dlq("retry", TYPE, "--all")
    assert (stopped.returncode, stopped.stdout) == (1, "1 of 3 tried: 1 failed\n")
    assert "stopped, the rest would fail in the same way" in stopped.stderr


def test_a_bar_on_a_terminal(sidecar, port):
    fail(sidecar, 2)
    with Upstream(port=port):
        here, there = pty.openpty()
        command = [sys.executable, "-m", "sidecar", "dlq", "retry", TYPE, "--all", "--admin", sidecar.admin]
        with subprocess.Popen(command, stderr=there, stdout=subprocess.PIPE) as process:
            output = process.stdout.read()
        os.close(there)
        assert output == b"2 of 2 tried: 2 delivered\n"
        assert b"retrying HTTP_REQUEST" in os.read(here, 100_000)
        os.close(here)


def test_an_edit(sidecar, dlq, tmp_path):
    (record_id,) = fail(sidecar, Idempotency_Key="k-1")
    file = tmp_path / "body"
    file.write_text("amount=2")
    edited = dlq("edit", TYPE, record_id, "--payload", str(file), "--reason", "typo")
    assert edited.returncode == 0, edited.stderr
    shown = json.loads(dlq("show", TYPE, record_id).stdout)
    assert (shown["request"]["body"], shown["edits"][0]["reason"]) == ("amount=2", "typo")
    assert edited.stdout == f"{record_id} is edited; its idempotency key is {shown['idempotency_key']}\n"
    assert dlq("edit", TYPE, record_id, "--payload", "-", text="amount=3").returncode == 0
    assert json.loads(dlq("show", TYPE, record_id).stdout)["request"]["body"] == "amount=3"
    assert dlq("edit", TYPE, record_id, "--payload", str(tmp_path / "missing")).returncode == 2


def test_a_removal(sidecar, dlq):
    (record_id,) = fail(sidecar)
    removed = dlq("remove", TYPE, record_id, "--reason", "obsolete")
    assert (removed.returncode, removed.stdout) == (0, f"{record_id} is removed\n")
    assert dlq("remove", TYPE, record_id).returncode == 1
    line = sidecar.wait_log(lambda line: line.get("why") == "obsolete", "the removal is logged")
    assert line["what"].startswith("DELETE ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry", TYPE),
        ("retry", TYPE, "x", "--all"),
        ("retry", TYPE, "x", "--dry-run"),
        ("list", TYPE, "--limit", "0"),
        ("show", TYPE),
    ],
)
def test_arguments_that_make_no_sense(dlq, arguments):
    assert dlq(*arguments).returncode == 2


def test_nobody_there(dlq):
    for command in (("list",), ("retry", TYPE, "x"), ("retry", TYPE, "--all")):
        nobody = dlq(*command, admin="http://127.0.0.1:1")
        assert nobody.returncode == 2
        assert "no sidecar answers at http://127.0.0.1:1" in nobody.stderr


def test_a_token(start_sidecar, upstream):
    config = config_for(upstream.url)
    port = free_port()
    config["admin"] = {"bind": f"127.0.0.1:{port}", "token": "s3cret-token"}
    sidecar = start_sidecar(config, expect_ready=False)
    sidecar.admin_port = port
    sidecar.wait_ready()
    command = [sys.executable, "-m", "sidecar", "dlq", "list", "--admin", sidecar.admin]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 1
    assert "token" in refused.stderr
    for options, env in ((["--token", "s3cret-token"], {}), ([], {"SIDECAR_ADMIN_TOKEN": "s3cret-token"})):
        allowed = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, **env},
        )
        assert (allowed.returncode, allowed.stdout) == (0, "no dead letters\n")
