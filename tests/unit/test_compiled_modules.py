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


def nodes(path, kind):
    return [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kind)]


def compiled_names(path):
    """What the module imports from compiled ones."""
    modules = {each.removesuffix(".py").replace("/", ".") for each in COMPILED}
    return {
        name.asname or name.name
        for node in nodes(path, ast.ImportFrom)
        if node.module in modules
        for name in node.names
    }


@pytest.mark.parametrize("path", COMPILED)
def test_they_exist(path):
    assert (ROOT / path).is_file()


def test_no_interpreted_class_inherits_from_a_compiled_one():
    """mypyc: "interpreted classes cannot inherit from compiled", said only when an object is made."""
    children = {
        f"{path}: {node.name}({ast.unparse(base)})"
        for path in INTERPRETED
        for names in [compiled_names(path)]
        for node in nodes(path, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in names
    }
    assert children == set()


@pytest.mark.parametrize("path", COMPILED)
def test_no_error_is_raised_again_in_a_handler_that_awaits(path):
    """mypyc: what is being handled is forgotten over an ``await``, and a bare ``raise`` ends the process."""
    handlers = [
        handler.lineno
        for handler in nodes(path, ast.ExceptHandler)
        if any(isinstance(node, ast.Await) for node in ast.walk(handler))
        and any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
    ]
    assert handlers == []
