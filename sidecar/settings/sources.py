"""File, environment and flags put together, and which of them a value came from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings.mistake import Mistake, Path
    from sidecar.settings.overlay import Overlay
    from sidecar.settings.yaml_source import Document, Tree


class Sources:
    """All sources of one configuration; flags override the environment, which overrides the file."""

    def __init__(self, document: Document, variables: Overlay, flags: Overlay) -> None:
        self._document = document
        self._overlays = (flags, variables)

    def merge(self) -> dict[str, Tree]:
        """The values of all sources, flags over environment over file."""
        tree = self._document.tree
        for overlay in reversed(self._overlays):
            tree = _put_over(tree, overlay.tree)
        return tree

    def origin(self, path: Path) -> str:
        """Where ``path``, or the nearest place around it that was written down, comes from."""
        around = [path[:length] for length in range(len(path), -1, -1)]
        for origins in (*(overlay.origins for overlay in self._overlays), self._document.origins):
            for place in around:
                if place in origins:
                    return origins[place]
        # Without a file there is no place around: name a variable or flag that set something beside it.
        for place in around[:-1]:
            for overlay in self._overlays:
                for known, origin in overlay.origins.items():
                    if known[: len(place)] == place:
                        return origin
        return ""

    def written_at(self, path: Path) -> str:
        """Where ``path`` itself, or a value that holds it, was written down; empty for a default."""
        for overlay in self._overlays:
            for length in range(len(path), 0, -1):
                if path[:length] in overlay.origins:
                    return overlay.origins[path[:length]]
        return self._document.origins.get(path, "")

    def rank(self, mistake: Mistake) -> tuple[int, int]:
        """Sorts mistakes as they stand in the file, those from elsewhere after them."""
        line = re.fullmatch(re.escape(self._document.name) + r":([0-9]+)", mistake.origin)
        return (0, int(line[1])) if line else (1, 0)


def _put_over(below: dict[str, Tree], above: dict[str, Tree]) -> dict[str, Tree]:
    """``above`` where it says something, ``below`` for the rest; lists are taken whole."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = _put_over(known, value)
        else:
            merged[key] = value
    return merged
