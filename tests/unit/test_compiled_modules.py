"""What the sources must keep to for the wheel, which has some of them compiled, to work as they do."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOKS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
COMPILED = sorted(HOOKS["hooks"]["custom"]["modules"])
INTERPRETED = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "sidecar").rglob("*.py")
    if str(path.relative_to(ROOT)) not in COMPILED
)


def classes(path):
    return [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.ClassDef)]


COMPILED_CLASSES = {node.name: path for path in COMPILED for node in classes(path)}


@pytest.mark.parametrize("path", COMPILED)
def test_they_exist(path):
    assert (ROOT / path).is_file()


def test_no_interpreted_class_inherits_from_a_compiled_one():
    """mypyc: "interpreted classes cannot inherit from compiled", said only when an object is made."""
    children = {
        f"{path}: {node.name}({ast.unparse(base)})"
        for path in INTERPRETED
        for node in classes(path)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in COMPILED_CLASSES
    }
    assert children == set()
