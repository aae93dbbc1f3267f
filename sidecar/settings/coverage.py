"""Routes that no request can reach, because an earlier one takes all that they would.

Each route is looked up among the earlier ones by its pattern, so that checking a thousand routes costs a
thousand short walks and not half a million comparisons.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sidecar.routing import Pattern, accepted_methods, normalise_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.settings.model import Match


def unreachable(routes: Iterable[tuple[int, Match]], listeners: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Each route that an earlier one covers wholly, with the earlier one.

    Args:
        routes: Position and ``match`` of each route whose template is well-formed, in the file's order.
        listeners: The names of all listeners; where there is but one, naming it restricts nothing.
    """
    only, *others = (*listeners, None)
    seen: dict[tuple[str | None, bytes | None], _Cover] = defaultdict(_Cover)
    for position, match in routes:
        pattern, methods = Pattern.of(match), accepted_methods(match.methods)
        listener = None if others == [None] and match.listener == only else match.listener
        host = None if match.host is None else normalise_host(match.host.encode())
        wider = {(name, key) for name in (None, listener) for key in (None, host)}
        covers = (seen[key].covering(pattern, methods) for key in wider if key in seen)
        earlier = [found for found in covers if found is not None]
        if earlier:
            yield position, min(earlier)
        seen[listener, host].insert(pattern, methods, position)


class _Cover:
    """The patterns seen so far for one listener and host, searched by pattern instead of by path."""

    __slots__ = ("any", "ends", "literals", "prefixes")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Cover] = {}
        self.any: _Cover | None = None
        self.prefixes: dict[frozenset[bytes] | None, int] = {}
        self.ends: dict[frozenset[bytes] | None, int] = {}

    def insert(self, pattern: Pattern, methods: frozenset[bytes] | None, position: int) -> None:
        """Remember a route; the first with the same pattern and methods counts."""
        node = self
        for segment in pattern.segments:
            if segment is not None:
                node = node.literals.setdefault(segment, _Cover())
                continue
            if node.any is None:
                node.any = _Cover()
            node = node.any
        (node.prefixes if pattern.is_prefix else node.ends).setdefault(methods, position)

    def covering(self, pattern: Pattern, methods: frozenset[bytes] | None, depth: int = 0) -> int | None:
        """Position of the first route whose pattern and methods take all that these take."""
        found = [_superset(self.prefixes, methods)]
        if depth == len(pattern.segments):
            found.append(None if pattern.is_prefix else _superset(self.ends, methods))
        else:
            segment = pattern.segments[depth]
            literal = None if segment is None else self.literals.get(segment)
            # {name} takes no empty segment, so it does not cover the one after a closing slash.
            anything = None if segment == b"" else self.any
            found += [child.covering(pattern, methods, depth + 1) for child in (literal, anything) if child]
        return min((position for position in found if position is not None), default=None)


def _superset(routes: dict[frozenset[bytes] | None, int], methods: frozenset[bytes] | None) -> int | None:
    return min(
        (
            position
            for wider, position in routes.items()
            if wider is None or (methods is not None and methods <= wider)
        ),
        default=None,
    )
