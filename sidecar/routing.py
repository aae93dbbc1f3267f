"""Which route a request takes: the first in the file's order that matches, found without trying them all.

Exact paths are one dictionary, templates and prefixes one trie of path segments, per listener and host. A
search visits only nodes that lie on the request's path and may hold an earlier route than the best so far, so
the number of routes does not matter.

What counts as the same path, so that no route is evaded by spelling it differently:

* Matching looks at a normalised copy (:func:`normalise_path`); the upstream gets the path as it came.
* A prefix matches whole segments: ``/api`` matches ``/api``, ``/api/`` and ``/api/x``, not ``/apiary``.
* ``{name}`` matches exactly one segment, which must not be empty.
* Upper and lower case differ, and ``/a`` is not ``/a/`` (RFC 3986, section 6.2.2.1).
* Hosts compare without case, port, or closing dot.
* A route for ``GET`` takes ``HEAD`` too, as both ask for the same thing (RFC 9110, section 9.3.2).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.settings.model import Match

T = TypeVar("T")

_LAST: Final = 1 << 62
_PERCENT_SIGN: Final = 0x25
_DOT: Final = 0x2E
_SLASH: Final = 0x2F
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ENCODED: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_SLASHES: Final = re.compile(rb"/{2,}")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


def normalise_path(path: bytes) -> bytes:
    """``path`` (without query) in the one spelling that routes are compared with.

    Percent-encoded unreserved characters are decoded and the hexadecimal digits of others put in upper case
    (RFC 3986, section 6.2.2.2), repeated slashes become one, as many servers read them, and dot segments are
    resolved (section 5.2.4), ``%2e%2e`` among them. An encoded slash stays encoded: it is data in a segment.
    """
    # Looking for one octet is a memchr; ``bytes in bytes`` costs seven times as much in CPython 3.11.
    if _PERCENT_SIGN in path:
        path = _ENCODED.sub(_decode_unreserved, path)
    if path.find(b"//") >= 0:
        path = _SLASHES.sub(b"/", path)
    return _resolve_dots(path) if _DOT in path and b"/." in path else path


def _decode_unreserved(found: re.Match[bytes]) -> bytes:
    octet = int(found[0][1:], 16)
    return bytes((octet,)) if octet in _UNRESERVED else found[0].upper()


def _resolve_dots(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def normalise_host(host: bytes) -> bytes:
    """The host of a ``Host`` field in lower case, without port and closing dot."""
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1].lower()
    return host.partition(b":")[0].removesuffix(b".").lower()


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path, template or prefix, cut into segments.

    Attributes:
        segments: Each segment's bytes; ``None`` stands for any one that is not empty.
        names: Position and name of each ``{name}``.
        is_prefix: Whether further segments may follow.
    """

    segments: tuple[bytes | None, ...]
    names: tuple[tuple[int, str], ...] = ()
    is_prefix: bool = False

    @classmethod
    def of(cls, match: Match) -> Pattern:
        """The pattern of a route's ``match``; without path and prefix it is the prefix ``/``.

        Raises:
            ValueError: The template is malformed.
        """
        if match.path is not None:
            return cls.parse(match.path)
        return cls.parse_prefix("/" if match.prefix is None else match.prefix)

    @classmethod
    def parse(cls, template: str) -> Pattern:
        """The pattern of a whole path such as ``/users/{id}``.

        Raises:
            ValueError: A segment is neither plain nor a ``{name}`` of its own, or a name stands twice.
        """
        segments: list[bytes | None] = []
        names: list[tuple[int, str]] = []
        for position, text in enumerate(_plain_path(template).split("/")[1:]):
            parameter = _PARAMETER.fullmatch(text)
            if parameter is None:
                segments.append(_literal(text))
                continue
            if parameter[1] in {name for _, name in names}:
                raise ValueError(f"{{{parameter[1]}}} stands twice; each segment needs a name of its own")
            names.append((position, parameter[1]))
            segments.append(None)
        return cls(tuple(segments), tuple(names))

    @classmethod
    def parse_prefix(cls, prefix: str) -> Pattern:
        """The pattern of everything at and below ``prefix``; a closing slash makes no difference.

        Raises:
            ValueError: The prefix holds a ``{name}``, a wildcard, a query or a fragment.
        """
        if _PARAMETER.search(prefix):
            raise ValueError("a prefix holds no {name}: use path for a template")
        segments = [_literal(text) for text in _plain_path(prefix).removesuffix("/").split("/")[1:]]
        return cls(tuple(segments), is_prefix=True)


def _plain_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("a path begins with /")
    if "?" in path or "#" in path:
        raise ValueError("a path ends before ? and #: routes do not look at the query")
    return normalise_path(path.encode()).decode()


def _literal(text: str) -> bytes:
    if "{" in text or "}" in text:
        raise ValueError(
            f"{text!r} is not a segment: {{name}} stands for a whole one, of letters, digits and _"
        )
    if text in {"*", "**"}:
        raise ValueError(
            f"{text!r} is no wildcard here: use {{name}} for one segment, or prefix for all below"
        )
    return text.encode()


class _Entry(Generic[T]):
    """A route where its pattern ends."""

    __slots__ = ("methods", "names", "order", "value")

    def __init__(
        self, order: int, methods: frozenset[bytes] | None, names: tuple[tuple[int, str], ...], value: T
    ) -> None:
        self.order = order
        self.methods = methods
        self.names = names
        self.value = value


class _Node(Generic[T]):
    """A place in the trie: what ends here, and what goes on."""

    __slots__ = ("any", "ends", "literals", "lowest", "prefixes")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.prefixes: list[_Entry[T]] = []
        self.ends: list[_Entry[T]] = []
        # The earliest route at or below this node: a search with a better one in hand need not look here.
        self.lowest = _LAST

    def child(self, segment: bytes | None) -> _Node[T]:
        """The node that ``segment`` leads to, made when there is none."""
        if segment is not None:
            return self.literals.setdefault(segment, _Node())
        if self.any is None:
            self.any = _Node()
        return self.any

    def search(self, segments: list[bytes], depth: int, method: bytes, best: _Entry[T]) -> _Entry[T]:
        """The earliest route on the way of ``segments[depth:]`` that takes ``method``, or ``best``."""
        node = self
        while True:
            if node.prefixes:
                best = _earliest(node.prefixes, method, best)
            if depth == len(segments):
                return _earliest(node.ends, method, best)
            segment = segments[depth]
            depth += 1
            literal = node.literals.get(segment)
            if literal is not None and literal.lowest >= best.order:
                literal = None
            anything = node.any
            if anything is None or not segment or anything.lowest >= best.order:
                if literal is None:
                    return best
                node = literal
                continue
            if literal is not None:
                best = literal.search(segments, depth, method, best)
            node = anything


def _earliest(entries: list[_Entry[T]], method: bytes, best: _Entry[T]) -> _Entry[T]:
    for entry in entries:
        if entry.order >= best.order:
            break
        if entry.methods is None or method in entry.methods:
            return entry
    return best


class _Table(Generic[T]):
    """The routes of one listener and one host (or any host)."""

    __slots__ = ("_depth", "_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[bytes, list[_Entry[T]]] = {}
        self._root: _Node[T] = _Node()
        self._depth = 0

    def insert(self, pattern: Pattern, entry: _Entry[T]) -> None:
        """Add a route; entries come in the file's order."""
        if not pattern.names and not pattern.is_prefix:
            path = b"/" + b"/".join(segment or b"" for segment in pattern.segments)
            self._exact.setdefault(path, []).append(entry)
            return
        node = self._root
        node.lowest = min(node.lowest, entry.order)
        for segment in pattern.segments:
            node = node.child(segment)
            node.lowest = min(node.lowest, entry.order)
        (node.prefixes if pattern.is_prefix else node.ends).append(entry)
        self._depth = max(self._depth, len(pattern.segments))

    def find(self, method: bytes, path: bytes, best: _Entry[T]) -> _Entry[T]:
        """The earliest route that takes ``method`` on ``path``, or ``best`` if none is before it."""
        exact = self._exact.get(path)
        if exact is not None:
            best = _earliest(exact, method, best)
        root = self._root
        if root.lowest >= best.order:
            return best
        if self._depth == 0 or path[0] != _SLASH:
            # Only prefixes of everything; they also take "OPTIONS *", which has no path.
            return _earliest(root.prefixes, method, best)
        # Nothing in the trie looks at segments deeper than this: a path of thousands costs no more.
        return root.search(path.split(b"/", self._depth + 2), 1, method, best)


class Router(Generic[T]):
    """Finds the value (a route's plan) of the first route that matches a request.

    Args:
        routes: Each route's ``match`` and value, in the file's order.
        listeners: The names of all listeners.

    Raises:
        ValueError: A template is malformed.
    """

    __slots__ = ("_nothing", "_sites")

    def __init__(self, routes: Iterable[tuple[Match, T]], listeners: Iterable[str]) -> None:
        names = tuple(listeners)
        sites: dict[str, dict[bytes, _Table[T]]] = {name: defaultdict(_Table) for name in names}
        for order, (match, value) in enumerate(routes):
            pattern = Pattern.of(match)
            entry = _Entry(order, accepted_methods(match.methods), pattern.names, value)
            for name in names if match.listener is None else (match.listener,):
                sites[name][_host_key(match.host)].insert(pattern, entry)
        self._sites = {name: (tables.pop(b"", _Table()), dict(tables)) for name, tables in sites.items()}
        self._nothing: _Entry[T] = _Entry(_LAST, None, (), None)  # type: ignore[arg-type] # never given out

    def match(
        self, listener: str, host: bytes, method: bytes, path: bytes, *, plain: bool = False
    ) -> tuple[T, dict[str, bytes]] | None:
        """The first matching route's value and its path parameters, or nothing.

        Args:
            listener: Name of the listener that the request came in on.
            host: Value of its ``Host`` field.
            method: Its method, as sent.
            path: Its target's path, as sent, not empty, without query; ``*`` matches routes for all paths.
            plain: Whether the path is known to be normal already.

        Returns:
            The parameters are segments of the normalised path: what is still encoded there is reserved.
        """
        if not plain:
            path = normalise_path(path)
        site = self._sites.get(listener)
        if site is None:
            return None  # a listener that was closed on a reload, and still has a request to read
        general, hosts = site
        best = general.find(method, path, self._nothing)
        if hosts:
            table = hosts.get(host) or hosts.get(normalise_host(host))
            if table is not None:
                best = table.find(method, path, best)
        if best.order == _LAST:
            return None
        if not best.names:
            return best.value, {}
        segments = path.split(b"/")
        return best.value, {name: segments[position + 1] for position, name in best.names}


def _host_key(host: str | None) -> bytes:
    return b"" if host is None else normalise_host(host.encode())


def accepted_methods(methods: tuple[str, ...]) -> frozenset[bytes] | None:
    """What a route's ``methods`` take: ``None`` for all, ``HEAD`` wherever ``GET`` is."""
    if not methods:
        return None
    return frozenset(method.encode() for method in methods) | ({b"HEAD"} if "GET" in methods else set())
