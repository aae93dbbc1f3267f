"""Names of upstreams and listeners that nothing has.

They are looked up in the tree as it was written, and not in the valid settings: an item that has to be left
out because of another mistake still says which upstream it means, and every mistake is told at once.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sidecar.settings.checks import Found
    from sidecar.settings.mistake import Path
    from sidecar.settings.yaml_source import Tree


def unknown_names(tree: dict[str, Tree]) -> Iterator[Found]:
    """Where ``tree`` names an upstream or a listener that it does not have, and what is wrong there."""
    upstreams = tree.get("upstreams")
    known = list(upstreams) if isinstance(upstreams, dict) else []
    listeners = [item.get("name") for item in _items(tree.get("listeners"))]
    for position, route in enumerate(_items(tree.get("routes"))):
        place: Path = ("routes", position)
        yield from _unknown("upstream", route, (*place, "upstream"), known)
        yield from _unknown("upstream", route, (*place, "fallback"), known)
        yield from _unknown(
            "listener", _mapping(route.get("match")), (*place, "match", "listener"), listeners
        )
    subscriptions = _mapping(tree.get("events")).get("subscriptions")
    for position, subscription in enumerate(_items(subscriptions)):
        path = ("events", "subscriptions", position, "upstream")
        yield from _unknown("upstream", subscription, path, known)


def _unknown(what: str, item: dict[str, Tree], path: Path, known: Collection[Tree]) -> Iterator[Found]:
    name = item.get(str(path[-1]))
    if not isinstance(name, str) or name in known:
        return
    names = sorted(other for other in known if isinstance(other, str))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        yield path, f"there is no {what} {name}: did you mean {close[0]}?"
    else:
        yield path, f"there is no {what} {name}" + (f": there is {', '.join(names)}" if names else "")


def _items(tree: Tree) -> list[dict[str, Tree]]:
    """The items of a list of sections, by position; what is no section says nothing."""
    return [_mapping(item) for item in tree] if isinstance(tree, list) else []


def _mapping(tree: Tree) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}
