import pytest
from typer.testing import CliRunner

from sidecar.cli.app import app

GOOD = "upstreams: {app: {url: http://127.0.0.1:3000}}\n"


@pytest.fixture
def sidecar(monkeypatch, tmp_path):
    for name in ("REDIS_URL", "DATABASE_URL", "SIDECAR_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments, env={"NO_COLOR": "1", "COLUMNS": "100"})


def test_a_good_file(sidecar, tmp_path):
    (tmp_path / "good.yaml").write_text(GOOD)
    result = sidecar("check", "good.yaml")
    assert (result.exit_code, result.output) == (0, "good.yaml: good (1 route, 1 upstream)\n")


def test_every_mistake_is_a_line(sidecar, tmp_path):
    (tmp_path / "bad.yaml").write_text(f"workers: many\nservce: x\n{GOOD}")
    result = sidecar("check", "bad.yaml")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "bad.yaml:1: workers: expected a whole number, got 'many'",
        "bad.yaml:2: servce: unknown key: did you mean service?",
    ]


def test_a_missing_file(sidecar):
    result = sidecar("check", "missing.yaml")
    assert (result.exit_code, result.output) == (
        1,
        "missing.yaml: cannot be read: No such file or directory\n",
    )


def test_no_file_named(sidecar):
    result = sidecar("check")
    assert result.exit_code == 2
    assert "Missing argument 'FILE'" in result.output


def test_the_environment_counts(sidecar, tmp_path, monkeypatch):
    (tmp_path / "good.yaml").write_text(GOOD)
    monkeypatch.setenv("SIDECAR_WORKERS", "many")
    result = sidecar("check", "good.yaml")
    assert result.output == "SIDECAR_WORKERS: workers: expected a whole number, got 'many'\n"
