"""Values that environment variables and flags put over those of the file."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings.mistake import Path
    from sidecar.settings.yaml_source import Tree


class Overlay:
    """One source's values over what the sources below it say.

    Args:
        below: The keys and values of all sources below.

    Attributes:
        tree: The top-level keys that this source changes, whole: lists are not merged further up.
        origins: Who set each path.
    """

    def __init__(self, below: dict[str, Tree]) -> None:
        self._below = below
        self.tree: dict[str, Tree] = {}
        self.origins: dict[Path, str] = {}

    @property
    def merged(self) -> dict[str, Tree]:
        """The keys and values of all sources up to this one."""
        return {**self._below, **self.tree}

    def find(self, steps: list[str]) -> Path:
        """The path that ``steps`` mean, each compared without case, and ``-`` and ``.`` equal to ``_``.

        An item of a list is named by its position or by its ``name``. What is not there yet is spelt in lower
        case, as environment variables are not.

        Raises:
            ValueError: A list has no such item.
        """
        path: list[str | int] = []
        place: Tree = self.merged
        for step in steps:
            key = _item(place, step) if isinstance(place, list) else _key(place, step)
            place = _get(place, key)
            path.append(key)
        return tuple(path)

    def put(self, path: Path, value: Tree, origin: str) -> None:
        """Set ``path`` to ``value``; mappings on the way are made, an item after a list's last is added."""
        top = str(path[0])
        if top not in self.tree:
            self.tree[top] = deepcopy(self._below.get(top))
        place: Tree = self.tree
        for step, following in pairwise(path):
            inner = _get(place, step)
            if not isinstance(inner, dict | list):
                inner = [] if isinstance(following, int) else {}
                _set(place, step, inner)
            place = inner
        _set(place, path[-1], value)
        self.origins[path] = origin


def _key(place: Tree, step: str) -> str | int:
    if isinstance(place, dict):
        for key in place:
            if _fold(key) == _fold(step):
                return key
    return 0 if place is None and step == "0" else step.lower()


def _item(items: list[Tree], step: str) -> int:
    if step.isascii() and step.isdigit() and len(step) <= 5 and int(step) <= len(items):  # noqa: PLR2004 - digits
        return int(step)
    names: list[str] = []
    for position, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str):
            if _fold(name) == _fold(step):
                return position
            names.append(name)
    known = f" or one of {', '.join(names)}" if names else ""
    raise ValueError(f"{step} names no item: expected a position from 0 to {len(items)}{known}")


def _fold(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _get(place: Tree, step: str | int) -> Tree:
    if isinstance(place, list) and isinstance(step, int):
        return place[step] if step < len(place) else None
    return place.get(str(step)) if isinstance(place, dict) else None


def _set(place: Tree, step: str | int, value: Tree) -> None:
    if isinstance(place, list) and isinstance(step, int):
        place[step : step + 1] = [value]
    elif isinstance(place, dict):
        place[str(step)] = value
