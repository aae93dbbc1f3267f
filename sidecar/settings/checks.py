"""Mistakes that no single value shows: settings that contradict each other or have no effect."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from sidecar.routing import Pattern
from sidecar.settings.coverage import unreachable
from sidecar.settings.model import Settings, UpstreamTls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from sidecar.settings.addresses import Address
    from sidecar.settings.mistake import Path
    from sidecar.settings.model import (
        Audit,
        Correlation,
        Listener,
        ListenerTls,
        Match,
        Route,
        Subscription,
        Upstream,
    )

Found = tuple["Path", str]
"""Where a mistake is, and what it is."""

# Fields that frame a message, name its route or prove its sender cannot carry an identifier as well.
_RESERVED_HEADERS = frozenset({
    "authorization", "baggage", "connection", "content-length", "content-type", "cookie", "host",
    "idempotency-key", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade", "via",
    "x-request-id",
})  # fmt: skip
_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True)
class Draft:
    """What can be checked of a configuration, some of whose values may be invalid.

    Attributes:
        settings: The valid parts; defaults stand for the others.
        listeners: The listeners by position, as far as they are valid.
        routes: The routes by position, as far as they are valid.
        flawed: Positions of routes that have lost an invalid part.
        pathless: Positions of routes whose path may be the part that they have lost.
        subscriptions: The subscriptions by position, as far as they are valid.
        listener_names: Names of all listeners, in order, invalid ones too.
        upstream_names: Names of all upstreams, invalid ones too.
        route_names: Names of all routes, in order, invalid ones too.
    """

    settings: Settings
    listeners: dict[int, Listener]
    routes: dict[int, Route]
    flawed: set[int | str]
    pathless: set[int | str]
    subscriptions: dict[int, Subscription]
    listener_names: list[str]
    upstream_names: list[str]
    route_names: list[str]


def check(draft: Draft) -> Iterator[Found]:
    """Every mistake in ``draft``."""
    yield from _check_ports(draft)
    yield from _check_listeners(draft)
    yield from _check_correlation(draft)
    yield from _check_workers(draft)
    yield from _check_upstreams(draft)
    for position, route in draft.routes.items():
        yield from _check_route(("routes", position), route, knows_path=position not in draft.pathless)
    yield from _duplicates("routes", draft.route_names, "a route")
    yield from _check_order(draft)
    yield from _check_subscriptions(draft)


def _check_ports(draft: Draft) -> Iterator[Found]:
    settings = draft.settings
    admin = settings.admin
    if admin.token is None and not admin.bind.is_loopback:
        yield (
            ("admin", "bind"),
            f"{admin.bind} can be reached from other machines: set admin.token, or bind to 127.0.0.1",
        )
    bound: list[tuple[Path, Address]] = [
        (("listeners", position, "bind"), listener.bind) for position, listener in draft.listeners.items()
    ]
    bound.append((("admin", "bind"), admin.bind))
    if settings.metrics is not None:
        bound.append((("metrics", "bind"), settings.metrics.bind))
    for number, (path, address) in enumerate(bound):
        for other_path, other in bound[:number]:
            if _collide(address, other):
                yield path, f"{address} is taken by {'.'.join(map(str, other_path))}"
                break


def _collide(one: Address, other: Address) -> bool:
    if one.unix or other.unix:
        return one.unix == other.unix
    return one.port == other.port != 0 and (
        one.host == other.host or bool(_ANYWHERE & {one.host, other.host})
    )


def _check_listeners(draft: Draft) -> Iterator[Found]:
    if not draft.listener_names:
        yield ("listeners",), "there is none: add one, such as {name: ingress, bind: 0.0.0.0:8080}"
    yield from _duplicates("listeners", draft.listener_names, "a listener")
    for position, listener in draft.listeners.items():
        if listener.tls is not None:
            yield from _check_files(
                ("listeners", position, "tls"), listener.tls, ("cert", "key", "client_ca")
            )


def _check_correlation(draft: Draft) -> Iterator[Found]:
    sections: list[tuple[Path, Correlation]] = [(("correlation",), draft.settings.correlation)]
    sections += [
        (("listeners", position, "correlation"), listener.correlation)
        for position, listener in draft.listeners.items()
        if listener.correlation is not None
    ]
    for path, section in sections:
        if section.header.lower() in _RESERVED_HEADERS:
            yield (*path, "header"), f"{section.header} has a meaning of its own: choose another header"


def _check_workers(draft: Draft) -> Iterator[Found]:
    settings = draft.settings
    if settings.workers > 1 and settings.store.startswith("memory:"):
        yield (
            ("workers",),
            f"{settings.workers} workers cannot share memory://: set store to Redis, or workers to 1",
        )


def _check_upstreams(draft: Draft) -> Iterator[Found]:
    if not draft.upstream_names:
        yield (
            ("upstreams",),
            "there is none: use --upstream URL, or add one, such as app: {url: http://127.0.0.1:3000}",
        )
    for name, upstream in draft.settings.upstreams.items():
        yield from _check_upstream(("upstreams", name), upstream)


def _check_upstream(path: Path, upstream: Upstream) -> Iterator[Found]:
    if upstream.url is None and not upstream.urls:
        yield path, "has no host: add url, such as http://127.0.0.1:3000"
    if upstream.url is not None and upstream.urls:
        yield (*path, "urls"), "url is given too: keep one of them"
    for url, count in Counter(upstream.urls).items():
        if count > 1:
            yield (*path, "urls"), f"{url} stands {count} times"
    tls = upstream.tls
    if tls != UpstreamTls() and upstream.hosts and not any(url.is_tls for url in upstream.hosts):
        yield (*path, "tls"), "no host is https: the section has no effect"
    if (tls.cert is None) != (tls.key is None):
        yield (*path, "tls"), "cert and key go together: one of them is missing"
    yield from _check_files((*path, "tls"), tls, ("ca", "cert", "key"))


def _check_files(path: Path, tls: ListenerTls | UpstreamTls, keys: Iterable[str]) -> Iterator[Found]:
    for key in keys:
        name = getattr(tls, key)
        if name is None:
            continue
        try:
            with FilePath(name).open("rb") as file:
                file.read(1)
        except OSError as error:
            yield (*path, key), f"{name} cannot be read: {error.strerror}"


def _check_route(path: Path, route: Route, *, knows_path: bool) -> Iterator[Found]:
    if route.fallback == route.upstream:
        yield (*path, "fallback"), f"is the upstream itself: name another one than {route.upstream}"
    match = route.match
    if match.path is not None and match.prefix is not None:
        yield (*path, "match", "prefix"), "path is given too: keep one of them"
    pattern = _pattern(match)
    if isinstance(pattern, str):
        yield (*path, "match", "prefix" if match.path is None else "path"), pattern
    if route.audit is not None:
        names = None if isinstance(pattern, str) or not knows_path else {name for _, name in pattern.names}
        yield from _check_audit((*path, "audit"), route.audit, names)


def _check_audit(path: Path, audit: Audit, parameters: Collection[str] | None) -> Iterator[Found]:
    from sidecar.audit.mapping import mistakes  # noqa: PLC0415 - a start without audited routes does without

    for place, message in mistakes(audit, parameters):
        yield (*path, *place), message
    if audit.previous is not None and audit.previous_value is not None:
        yield (*path, "previous"), "previous_value is given too: keep one of them"


def _pattern(match: Match) -> Pattern | str:
    try:
        return Pattern.of(match)
    except ValueError as error:
        return str(error)


def _check_order(draft: Draft) -> Iterator[Found]:
    if not draft.route_names and len(draft.upstream_names) > 1:
        yield ("routes",), f"there is none: say which requests go to {' or '.join(draft.upstream_names)}"
    ordered = [
        (position, route.match)
        for position, route in draft.routes.items()
        if position not in draft.flawed and isinstance(_pattern(route.match), Pattern)
    ]
    for position, earlier in unreachable(ordered, draft.listener_names or ["ingress"]):
        name = draft.routes[earlier].name
        yield (
            ("routes", position),
            f"is never reached: {name} (routes.{earlier}) takes all its requests first",
        )


def _check_subscriptions(draft: Draft) -> Iterator[Found]:
    first: dict[tuple[str, str, str], int] = {}
    for position, subscription in draft.subscriptions.items():
        path: Path = ("events", "subscriptions", position)
        if "{" in subscription.path:
            yield (*path, "path"), f"events go to one path: nothing is put in for {subscription.path}"
        target = (subscription.type, subscription.upstream, subscription.path)
        if (earlier := first.setdefault(target, position)) != position:
            yield path, f"is the same as events.subscriptions.{earlier}: each event would arrive twice"


def _duplicates(section: str, names: list[str], what: str) -> Iterator[Found]:
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if name and first.setdefault(name, position) != position:
            yield (section, position, "name"), f"{what} named {name} stands before ({section}.{first[name]})"
