"""Every other module of this folder must satisfy mypy, unused ``type: ignore`` included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
MODULES = sorted(
    path.name for path in FOLDER.glob("*.py") if path.name not in {"__init__.py", Path(__file__).name}
)


@pytest.mark.parametrize("module", MODULES)
def test_types_are_as_written_down(module):
    command = [sys.executable, "-m", "mypy", "--strict", str(FOLDER / module)]
    checked = subprocess.run(command, cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
