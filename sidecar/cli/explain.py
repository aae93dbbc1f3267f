"""`sidecar explain`: what would happen to this request?"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from sidecar.settings.introspect import Key
    from sidecar.settings.load import Loaded
    from sidecar.settings.mistake import Path
    from sidecar.settings.section import Section

Match = tuple[int, tuple[tuple[str, str], ...]] | None
"""Position of a route and the path's parameters, or nothing where no route matches."""

_WIDE = 24
# What a route's name, match and upstream say stands in the heading.
_HEADING = frozenset({"name", "match", "upstream", "url", "urls"})


def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The request's method, such as POST.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Its path, such as /api/v1/requests.")],
    *,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", envvar="SIDECAR_CONFIG", help="Configuration file, YAML.")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="As for run: the service, where there is no file.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Its Host header.")] = "localhost",
    listener: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where it comes in. Default: each listener.")
    ] = None,
) -> None:
    """Tell which route a request takes, and every setting that applies to it, with where it was set."""
    from sidecar.settings.flags import Flags  # noqa: PLC0415 - for this command alone
    from sidecar.settings.load import load  # noqa: PLC0415
    from sidecar.settings.mistake import Invalid  # noqa: PLC0415

    try:
        loaded = load(Flags(config=config, upstream=upstream), os.environ)
    except Invalid as invalid:
        print(*invalid.mistakes, sep="\n", file=sys.stderr)
        sys.exit(1)
    names = [each.name for each in loaded.settings.listeners]
    if listener is not None and listener not in names:
        raise typer.BadParameter(f"there is no listener {listener}: there is {', '.join(names)}")
    found = _match(loaded, [listener] if listener else names, host, method.upper(), path.partition("?")[0])
    sys.exit(_report(loaded, f"{method.upper()} {path}", found))


def _match(loaded: Loaded, listeners: list[str], host: str, method: str, path: str) -> dict[Match, list[str]]:
    """The listeners, by what they make of the request."""
    from sidecar.routing import Router  # noqa: PLC0415 - for this command alone

    routes = [(route.match, position) for position, route in enumerate(loaded.settings.routes)]
    router = Router(routes, [each.name for each in loaded.settings.listeners])
    found: dict[Match, list[str]] = {}
    for name in listeners:
        match: Match = None
        if taken := router.match(name, host.encode(), method.encode(), path.encode() or b"/"):
            match = (taken[0], tuple((key, value.decode()) for key, value in taken[1].items()))
        found.setdefault(match, []).append(name)
    return found


def _report(loaded: Loaded, request: str, found: dict[Match, list[str]]) -> int:
    """Print what was found for each group of listeners; returns the exit code: 1 where no route takes it."""
    from rich.console import Console  # noqa: PLC0415 - for this command alone

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for match, listeners in found.items():
        where = f" on {', '.join(listeners)}" if len(found) > 1 else ""
        if match is None:
            console.print(f"{request}{where}: no route takes it (404 NO_ROUTE)")
            continue
        position, parameters = match
        route = loaded.settings.routes[position]
        place = loaded.sources.written_at(("routes", position)) or "default"
        console.print(f"{request}{where}: route {route.name} ({place})", style="bold")
        for key, value in parameters:
            console.print(f"  {{{key}}} = {value}")
        _print_route(console, loaded, position)
        for name in listeners:
            _print_listener(console, loaded, name)
        console.print()
    return 1 if None in found else 0


def _print_route(console: Console, loaded: Loaded, position: int) -> None:
    route, upstreams = loaded.settings.routes[position], loaded.settings.upstreams
    _print_section(console, loaded, ("routes", position), route, f"route {route.name}")
    for role, name in (("upstream", route.upstream), ("fallback", route.fallback)):
        if name is not None:
            hosts = ", ".join(map(str, upstreams[name].hosts))
            _print_section(console, loaded, ("upstreams", name), upstreams[name], f"{role} {name}: {hosts}")


def _print_listener(console: Console, loaded: Loaded, name: str) -> None:
    settings = loaded.settings
    position, listener = next((n, each) for n, each in enumerate(settings.listeners) if each.name == name)
    own = loaded.sources.written_at(("listeners", position, "correlation"))
    path: Path = ("listeners", position, "correlation") if own else ("correlation",)
    correlation = listener.correlation or settings.correlation
    _print_section(console, loaded, path, correlation, f"correlation on {name}: {listener.bind}")
    _print_section(console, loaded, ("limits",), settings.limits, "limits")


def _print_section(console: Console, loaded: Loaded, path: Path, section: Section, title: str) -> None:
    """Print a section's settings as they would be written, and beside each where it was set."""
    from rich.text import Text  # noqa: PLC0415 - for this command alone

    console.print(Text(f"\n{title}", style="bold"))
    lines = [
        (place, ".".join(map(str, place[len(path) :])), value) for place, value in _settings(section, path)
    ]
    names = max(len(name) for _, name, _ in lines)
    values = min(max(len(value) for _, _, value in lines), _WIDE)
    for place, name, value in lines:
        origin = _origin(loaded, place)
        console.print(f"  {name:{names}}  {value:{values}} ", Text(origin, style="dim"))


def _settings(section: Section, path: Path) -> Iterator[tuple[Path, str]]:
    """Each setting of a section and of those inside it, as it would be written."""
    from sidecar.settings.introspect import keys_of, show  # noqa: PLC0415 - for this command alone

    for name, key in keys_of(type(section)).items():
        value = getattr(section, name)
        if key.section is not None and value is not None:
            if name not in _HEADING:
                yield from _settings(value, (*path, name))
        elif name not in _HEADING:
            yield (
                (*path, name),
                "off" if value is None and key.section else _shown(key, value, show(key, value)),
            )


def _shown(key: Key, value: object, text: str) -> str:
    return text if value is not None or (key.kind is not None and key.kind.none) else "not set"


def _origin(loaded: Loaded, place: Path) -> str:
    own = loaded.sources.written_at(place)
    if own or place[0] != "routes" or place[2:3] != ("idempotency",):
        return own or "default"
    # A route's idempotency falls back on the section of the same name at the top.
    common = ("idempotency", *place[3:])
    timeout = loaded.sources.written_at(("store_timeout",)) if place[3:] == ("store_timeout",) else ""
    return loaded.sources.written_at(common) or timeout or "default"
