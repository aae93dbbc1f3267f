"""The configuration as the running process gets it: from a child, without loading a validator."""

import asyncio
import os
import subprocess
import sys

import pytest

from sidecar.settings import child
from sidecar.settings.client import ChildExit, Recompiler, outcome_of
from sidecar.settings.model import Settings

GOOD = "service: first\nupstreams: {app: {url: http://127.0.0.1:3000}}\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    for name in ("REDIS_URL", "DATABASE_URL", "SIDECAR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    written = tmp_path / "sidecar.yaml"
    written.write_text(GOOD)
    return written


def test_settings_come_back(file):
    outcome = outcome_of(child.start(["--config", str(file), "--workers=1"]))
    assert isinstance(outcome.settings, Settings)
    assert (outcome.settings.service, outcome.file, outcome.mistakes) == ("first", str(file), [])


def test_mistakes_come_back(file):
    file.write_text("workers: many\n" + GOOD)
    outcome = outcome_of(child.start(["--config", str(file)]))
    assert outcome.settings is None
    assert [str(mistake) for mistake in outcome.mistakes] == [
        f"{file}:1: workers: expected a whole number, got 'many'"
    ]


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--bogus"], 2), (["extra"], 2)])
def test_help_and_usage_errors_are_the_childs_own(arguments, code, capfd):
    with pytest.raises(ChildExit) as caught:
        outcome_of(child.start(arguments))
    assert caught.value.code == code
    assert "Usage: sidecar run" in "".join(capfd.readouterr())


def test_a_file_in_the_working_directory_does_not_stand_in_for_a_library(file, tmp_path, monkeypatch):
    (tmp_path / "yaml.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert outcome_of(child.start(["--config", str(file)])).settings is not None


def test_a_parent_that_is_gone_is_no_fault(file):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.settings.compile", str(writing), "--config", str(file)],
        pass_fds=[writing],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_silent_child_is_given_up(file, monkeypatch):
    monkeypatch.setattr(child, "TIMEOUT", 0.0)
    with pytest.raises(ChildExit) as caught:
        outcome_of(child.start(["--config", str(file)]))
    assert caught.value.code == -9


async def test_reading_again_does_not_hold_up_the_loop(file):
    recompile = Recompiler(["--config", str(file)], str(file))
    file.write_text(GOOD.replace("first", "second"))
    task = asyncio.create_task(recompile())
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    settings = task.result()
    assert isinstance(settings, Settings)
    assert settings.service == "second"
    assert turns > 10


async def test_reading_again_gives_mistakes(file):
    recompile = Recompiler(["--config", str(file)], str(file))
    file.write_text("service: a b\n")
    mistakes = await recompile()
    assert [str(mistake).partition(": ")[0] for mistake in mistakes] == [f"{file}:1", f"{file}:1"]
    file.unlink()
    (mistake,) = await recompile()
    assert str(mistake) == f"{file}: cannot be read: No such file or directory"


async def test_a_child_that_fails_is_a_mistake(file, monkeypatch):
    monkeypatch.setattr(child, "TIMEOUT", 0.0)
    (mistake,) = await Recompiler(["--config", str(file)], str(file))()
    assert str(mistake) == f"{file}: reading the configuration ended with exit code -9"


def test_run_prints_every_mistake_and_exits_with_1(file):
    file.write_text("workers: many\nservce: x\n" + GOOD)
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "run", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{file}:1: workers: expected a whole number, got 'many'",
        f"{file}:2: servce: unknown key: did you mean service?",
    ]


def test_help_of_run():
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "run", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--upstream" in done.stdout
