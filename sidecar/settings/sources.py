"""File, environment and flags put together, and which of them a value came from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

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
        layers = [*(overlay.tree for overlay in self._overlays), self._document.tree]

        class Merged(BaseSettings):
            model_config = SettingsConfigDict(extra="allow")

            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], *_args: Any, **_kwargs: Any
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return tuple(_Layer(settings_cls, tree) for tree in layers)

        return Merged().model_extra or {}

    def origin(self, path: Path) -> str:
        """Where ``path``, or the nearest place around it that was written down, comes from."""
        around = [path[:length] for length in range(len(path), -1, -1)]
        if path and path not in self._document.origins and (within := self._set_within(path)):
            return within  # a key that came about on the way to the one that is named
        for origins in (*(overlay.origins for overlay in self._overlays), self._document.origins):
            for place in around:
                if place in origins:
                    return origins[place]
        # Without a file there is no place around: name a variable or flag that set something beside it.
        return next(filter(None, map(self._set_within, around[:-1])), "")

    def _set_within(self, place: Path) -> str:
        """A variable or flag that set ``place`` or something in it, or nothing."""
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


class _Layer(PydanticBaseSettingsSource):
    """One source's values, as pydantic-settings takes them."""

    def __init__(self, settings_cls: type[BaseSettings], tree: dict[str, Tree]) -> None:
        super().__init__(settings_cls)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._tree
