"""The admin port's library comes without what the admin port does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest


def output_of(program: str, **options) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, **options
    )
    return done.stdout.strip()


def test_the_client_is_not_loaded():
    program = "import sys, sidecar.app; print('aiohttp.web' in sys.modules, 'aiohttp.client' in sys.modules)"
    assert output_of(program) == "True False"


@pytest.mark.parametrize(
    "ask",
    [
        "from aiohttp import ClientSession",
        "from aiohttp import test_utils",
        "import aiohttp; aiohttp.ClientSession",
    ],
)
def test_whoever_asks_for_more_gets_the_whole_package(ask):
    program = (
        f"import sidecar.admin.server\n{ask}\n"
        "import aiohttp, aiohttp.client, importlib.metadata as metadata, sys\n"
        "print(aiohttp.ClientSession is aiohttp.client.ClientSession,"
        " aiohttp.web is sidecar.admin.server.web, aiohttp.__version__ == metadata.version('aiohttp'))"
    )
    assert output_of(program) == "True True True"


def test_a_name_that_is_not_there():
    program = (
        "import sidecar.admin, aiohttp\ntry: aiohttp.nonsense\nexcept AttributeError as error: print(error)"
    )
    assert "nonsense" in output_of(program)


def test_a_package_that_is_loaded_already_stays():
    program = (
        "import aiohttp as first, sidecar.admin, aiohttp; print(first is aiohttp, hasattr(first, 'request'))"
    )
    assert output_of(program) == "True True"


def test_a_server_that_needs_its_package_gets_it(tmp_path):
    package = tmp_path / "aiohttp"
    package.mkdir()
    (package / "__init__.py").write_text("NEEDED = 1\nfrom . import web\n")
    (package / "web.py").write_text("from . import NEEDED\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import sidecar.admin\n"
        "from aiohttp import web\n"
        "print(web.NEEDED, web.__file__)"
    )
    assert output_of(program) == f"1 {package / 'web.py'}"
