from __future__ import annotations

import subprocess
import sys

import pytest

import sidecar

HEAVY = (
    "aiohttp",
    "redis",
    "asyncpg",
    "pydantic",
    "uvloop",
    "opentelemetry",
    "structlog",
    "typer",
    "sqlite3",
)


def test_importing_the_library_pulls_in_no_server_and_no_driver():
    program = f"import sys, sidecar; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sidecar.__all__)
def test_every_public_name_is_there(name):
    value = getattr(sidecar, name)
    assert value.__doc__
    assert getattr(sidecar, name) is value


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sidecar.nonsense  # noqa: B018 - the access is the test
