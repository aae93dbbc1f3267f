import json
import platform
import re

import pytest
from typer.testing import CliRunner

from sidecar.cli.app import app
from sidecar.demo import run as demo_run
from sidecar.settings.compile import plain_flags
from sidecar.settings.flags import Flags


def test_help_lists_the_commands():
    output = CliRunner().invoke(app, ["--help"]).output
    for command in ("run", "check", "schema", "explain", "demo", "version"):
        assert re.search(rf"\b{command}\b", output)


def test_run_takes_every_flag_as_it_is():
    given = []
    arguments = [
        argument for name in Flags.__slots__ for argument in (f"--{name.replace('_', '-')}", f"<{name}>")
    ]
    result = CliRunner().invoke(app, ["run", *arguments], obj=given.append)
    assert result.exit_code == 0
    assert given == [Flags(**{name: f"<{name}>" for name in Flags.__slots__})]


def test_run_reads_the_files_name_from_the_environment():
    given = []
    CliRunner().invoke(app, ["run"], obj=given.append, env={"SIDECAR_CONFIG": "x.yaml"})
    assert given == [Flags(config="x.yaml")]


def test_schema_is_json():
    schema = json.loads(CliRunner().invoke(app, ["schema"]).output)
    assert schema["properties"]["upstreams"]["additionalProperties"] == {"$ref": "#/$defs/Upstream"}


def test_version():
    output = CliRunner().invoke(app, ["version"]).output
    assert re.fullmatch(rf"sidecar \d+\.\d+\.\d+ \(CPython {platform.python_version()}\)\n", output)


def test_demo_passes_its_exit_code_on(monkeypatch):
    asked = []
    monkeypatch.setattr(demo_run, "run_demo", lambda *, once: asked.append(once) or 3)
    assert CliRunner().invoke(app, ["demo", "--once"]).exit_code == 3
    assert asked == [True]


class TestPlainFlags:
    def test_known_flags_with_values(self):
        assert plain_flags(["--config", "a", "--log-level=debug", "--workers", "2"]) == Flags(
            config="a", log_level="debug", workers="2"
        )
        assert plain_flags([]) == Flags()
        assert plain_flags(["--store=redis://h/?a=b"]) == Flags(store="redis://h/?a=b")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--help"],
            ["--config"],
            ["--config", "--store"],
            ["--bogus", "x"],
            ["x"],
            ["--", "x"],
            ["--conf", "x"],
        ],
    )
    def test_the_rest_is_for_typer(self, arguments):
        assert plain_flags(arguments) is None
