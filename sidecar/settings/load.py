"""Reads the configuration from all its sources, and finds every mistake in it at once."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from sidecar.settings import environment, yaml_source
from sidecar.settings.checks import Draft, check
from sidecar.settings.explain import explain
from sidecar.settings.mistake import Invalid, Mistake, Path, dotted
from sidecar.settings.model import Route, Settings
from sidecar.settings.overlay import Overlay
from sidecar.settings.references import unknown_names
from sidecar.settings.resolve import resolve
from sidecar.settings.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from sidecar.settings.flags import Flags
    from sidecar.settings.yaml_source import Tree

_ROUTES: Path = ("routes",)
_LISTENERS: Path = ("listeners",)
_SUBSCRIPTIONS: Path = ("events", "subscriptions")
_PARTED: tuple[Path, ...] = (_ROUTES, _LISTENERS, ("upstreams",), _SUBSCRIPTIONS)
"""Where items stand for themselves: an invalid one does not keep the others from being checked."""
_JOINED = frozenset({"admin"})
"""Sections whose keys are judged together: without its token, a good address would look careless."""
_INGRESS: dict[str, Tree] = {"name": "ingress", "bind": "0.0.0.0:8080"}
_FLAG_PATHS: dict[str, Path] = {
    "listen": ("listeners", 0, "bind"),
    "admin": ("admin", "bind"),
    "store": ("store",),
    "workers": ("workers",),
    "log_level": ("log", "level"),
    "log_format": ("log", "format"),
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration.

    Attributes:
        settings: Its values.
        sources: Where each of them comes from.
        file: The file it was read from, or ``None``.
    """

    settings: Settings
    sources: Sources
    file: str | None


def load(flags: Flags, environ: Mapping[str, str]) -> Loaded:
    """The configuration that flags, environment and file make together.

    Raises:
        Invalid: It has mistakes; all of them are listed.
    """
    name = flags.config or environ.get(environment.CONFIG) or None
    document = yaml_source.read(name, environ) if name else yaml_source.Document()
    document.tree.setdefault("listeners", [dict(_INGRESS)])
    variables, misnamed = environment.read(environ, document.tree)
    given = _read_flags(flags, variables.merged)
    sources = Sources(document, variables, given)
    mistakes = [*document.mistakes, *misnamed, *environment.check_telemetry(environ)]
    return Loaded(_Judge(sources, mistakes).decide(sources.merge()), sources, name)


def _read_flags(flags: Flags, below: dict[str, Tree]) -> Overlay:
    overlay = Overlay(below)
    for flag, path in _FLAG_PATHS.items():
        value = getattr(flags, flag)
        if value is not None:
            overlay.put(path, value, "--" + flag.replace("_", "-"))
    if flags.upstream is not None:
        upstreams = below.get("upstreams")
        names = list(upstreams) if isinstance(upstreams, dict) else []
        path = ("upstreams", names[0] if len(names) == 1 else "app")
        overlay.put((*path, "url"), flags.upstream, "--upstream")
        overlay.put((*path, "urls"), [], "--upstream")
    return overlay


class _Judge:
    """Validates a configuration and collects its mistakes.

    Args:
        sources: Where its values come from.
        mistakes: What is known already.
    """

    def __init__(self, sources: Sources, mistakes: list[Mistake]) -> None:
        self._sources = sources
        self._mistakes = mistakes
        self._known = {mistake.path for mistake in mistakes}
        self._adapter = TypeAdapter(Settings)

    def decide(self, tree: dict[str, Tree]) -> Settings:
        """The settings, or :class:`Invalid` with all mistakes."""
        try:
            settings, removed = self._adapter.validate_python(tree), set[Path]()
        except ValidationError as error:
            settings, removed = self._salvage(tree, error)
        for path, message in unknown_names(tree):
            self._add(path, message)
        for path, message in check(self._draft(settings, tree, removed)):
            if not _is_explained(path, removed):
                self._add(path, message)
        if self._mistakes:
            raise Invalid(sorted(self._mistakes, key=self._sources.rank))
        return resolve(settings, tree)

    def _salvage(self, tree: dict[str, Tree], error: ValidationError) -> tuple[Settings, set[Path]]:
        """The valid parts of ``tree``, so that they are checked in the same run, and what had to be removed.

        First only the wrong values go; where a part cannot be without them, the part goes.
        """
        for detail in error.errors(include_url=False):
            self._add(path := _path(detail), explain(path, detail))
        removed = {_value_place(path) for path in map(_path, error.errors(include_url=False))}
        removed.discard(())
        try:
            return self._adapter.validate_python(_without(tree, removed)), removed
        except ValidationError as again:
            removed |= {_part_place(_path(detail)) for detail in again.errors(include_url=False)}
        return self._adapter.validate_python(_without(tree, removed)), removed

    def _draft(self, settings: Settings, tree: dict[str, Tree], removed: set[Path]) -> Draft:
        upstreams = tree.get("upstreams")
        return Draft(
            settings=settings,
            listeners=_positions(_LISTENERS, settings.listeners, removed),
            routes=_positions(_ROUTES, settings.routes, removed),
            flawed={path[1] for path in removed if path[0] == "routes" and len(path) > 1},
            pathless={path[1] for path in removed if _may_be_the_path(path)},
            subscriptions=_positions(_SUBSCRIPTIONS, settings.events.subscriptions, removed),
            listener_names=_names(tree.get("listeners")),
            upstream_names=list(upstreams) if isinstance(upstreams, dict) else [],
            route_names=_names(tree.get("routes")),
        )

    def _add(self, path: Path, message: str) -> None:
        place = dotted(path)
        if place not in self._known:
            self._known.add(place)
            self._mistakes.append(Mistake(self._sources.origin(path), place, message))


def _is_explained(path: Path, wrong: set[Path]) -> bool:
    """Whether a mistake may be there only because a wrong value around or below it was removed."""
    return any(path[: len(place)] == place[: len(path)] for place in wrong)


def _may_be_the_path(removed: Path) -> bool:
    """Whether a route may have lost its path: what was removed is ``match``, in it, or a misspelled name."""
    around, key = removed[:-1], removed[2:3]
    return around[:1] == _ROUTES and (key == ("match",) or not set(key) <= Route.__dataclass_fields__.keys())


def _path(detail: ErrorDetails) -> Path:
    return tuple(step for step in detail["loc"] if step != "[key]")


def _value_place(path: Path) -> Path:
    """The key whose value is wrong; nothing where that is a whole item of a list of sections."""
    if path == _item_place(path):
        return ()
    if path[0] in _JOINED:
        return path[:1]
    while isinstance(path[-1], int):
        path = path[:-1]
    return path


def _part_place(path: Path) -> Path:
    return _item_place(path) or path[:1]


def _item_place(path: Path) -> Path | None:
    """The item that a path leads to or into, of those that stand for themselves."""
    for around in _PARTED:
        if path[: len(around)] == around and len(path) > len(around):
            return path[: len(around) + 1]
    return None


def _positions(around: Path, items: tuple[Any, ...], removed: set[Path]) -> dict[int, Any]:
    """``items`` by the position that they had before others were removed."""
    gone = {place[-1] for place in removed if place[:-1] == around}
    kept = (position for position in range(len(items) + len(gone)) if position not in gone)
    return dict(zip(kept, items, strict=True))


def _without(tree: dict[str, Tree], places: set[Path]) -> dict[str, Tree]:
    pruned = deepcopy(tree)
    # Later items of a list go first, so that the positions of the others hold until it is their turn.
    last: Any
    for *around, last in sorted(
        places, key=lambda place: [str(step).zfill(9) for step in place], reverse=True
    ):
        place: Any = pruned
        for step in around:
            place = place[step] if isinstance(step, int) or step in place else {}
        if isinstance(place, list):
            del place[last]
        else:
            place.pop(last, None)
    return pruned


def _names(items: Tree) -> list[str]:
    names = [item.get("name") if isinstance(item, dict) else None for item in (items or ())]
    return [name if isinstance(name, str) else "" for name in names]
