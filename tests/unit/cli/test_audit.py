"""What `sidecar audit` says and how it exits; on a real database it is tested with the integration tests."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from sidecar.audit.mapping import blank_row
from sidecar.audit.record import REJECTED, Rejection
from sidecar.cli.app import app
from sidecar.spool.spool import Spool


def run(*arguments: str, **environment: str):
    # Nothing of the machine's own environment may answer in place of what a test gives.
    unset = {
        "DATABASE_URL": None,
        "SIDECAR_DATABASE": None,
        "SIDECAR_CONFIG": None,
        "SIDECAR_SPOOL__DIR": None,
    }
    return CliRunner().invoke(app, ["audit", *arguments], env={**unset, **environment})


@pytest.fixture
def spool_folder(tmp_path):
    """A spool with two rejections."""

    async def fill() -> None:
        spool = Spool(tmp_path)
        await spool.open()
        for number in range(2):
            row = blank_row(row_id=f"id-{number}", method="POST", correlation_id="corr", created_at=1)
            rejection = Rejection(reason="not_json", field="new_value", message="no", route="create", row=row)
            await spool.append(REJECTED, rejection.encode())
        await spool.close()

    asyncio.run(fill())
    return tmp_path


def test_rejected_changes_are_printed_and_stay(spool_folder):
    for _ in range(2):
        done = run("rejected", "--spool", str(spool_folder))
        assert done.exit_code == 0
        printed = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["row"]["id"] for line in printed] == ["id-0", "id-1"]
        assert printed[0]["reason"] == "not_json"


def test_rejected_changes_are_removed_once_printed(spool_folder):
    assert len(run("rejected", "--remove", SIDECAR_SPOOL__DIR=str(spool_folder)).stdout.splitlines()) == 2
    assert run("rejected", "--remove", SIDECAR_SPOOL__DIR=str(spool_folder)).stdout == ""


def test_the_configuration_names_the_spool(spool_folder, tmp_path):
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        f'{{spool: {{dir: "{spool_folder}"}}, upstreams: {{app: {{url: "http://127.0.0.1:3000"}}}}}}'
    )
    assert len(run("rejected", "--config", str(file)).stdout.splitlines()) == 2


def test_without_a_spool_there_is_nothing_to_print(tmp_path):
    done = run("rejected", "--spool", str(tmp_path))
    assert done.exit_code == 2
    assert "there is no spool in" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["verify", "export"])
def test_without_a_database_the_commands_say_how_to_name_one(command):
    done = run(command)
    assert done.exit_code == 2
    assert "Give --database, DATABASE_URL, or a --config" in done.stderr


@pytest.mark.parametrize("command", ["verify", "export"])
def test_the_configuration_names_the_database(command, tmp_path):
    file = tmp_path / "sidecar.yaml"
    file.write_text(
        'database: "postgresql://nobody@127.0.0.1:1/none"\nupstreams: {app: {url: "http://127.0.0.1:3000"}}'
    )
    done = run(command, "--config", str(file))
    assert done.exit_code == 2
    assert "the database cannot be reached" in done.stderr


def test_a_configuration_with_mistakes_is_told(tmp_path):
    file = tmp_path / "sidecar.yaml"
    file.write_text("databse: x")
    done = run("verify", "--config", str(file))
    assert done.exit_code == 2
    assert "databse" in done.stderr


@pytest.mark.parametrize("anchor", ["", "7", "7:abc", "x:" + "a" * 64, "7:" + "G" * 64])
def test_an_anchor_is_a_number_and_a_hash(anchor):
    done = run("verify", "--anchor", anchor, DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert done.exit_code == 2
    assert "64 hexadecimal digits" in " ".join(done.stderr.replace("│", "").split())


def test_a_request_id_is_a_uuid():
    done = run("export", "--request-id", "42", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert done.exit_code == 2
    assert "'42' is no UUID" in done.stderr
