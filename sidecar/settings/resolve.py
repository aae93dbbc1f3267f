"""Defaults that one part of the configuration takes from another, filled in so that nobody asks twice."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from sidecar.settings.model import Idempotency, Match, Route, Settings

if TYPE_CHECKING:
    from sidecar.settings.yaml_source import Tree

DEFAULT_ROUTE = "default"


def resolve(settings: Settings, tree: dict[str, Tree]) -> Settings:
    """``settings`` with every inherited value in its place.

    Args:
        settings: As validated.
        tree: What was written, which tells a value that was given from a default.
    """
    common = _with_store_timeout(settings, _mapping(tree, "idempotency"))
    written = _list(tree, "routes")
    routes = [
        replace(route, idempotency=_inherited(route.idempotency, _child(item, "idempotency"), common))
        for route, item in zip(settings.routes, written, strict=True)
    ]
    if not routes and len(settings.upstreams) == 1:
        upstream = next(iter(settings.upstreams))
        routes = [Route(name=DEFAULT_ROUTE, match=Match(prefix="/"), upstream=upstream, idempotency=common)]
    listeners = tuple(
        replace(listener, correlation=listener.correlation or settings.correlation)
        for listener in settings.listeners
    )
    return replace(settings, idempotency=common, routes=tuple(routes), listeners=listeners)


def _with_store_timeout(settings: Settings, written: dict[str, Tree]) -> Idempotency | None:
    if settings.idempotency is None or "store_timeout" in written:
        return settings.idempotency
    return replace(settings.idempotency, store_timeout=settings.store_timeout)


def _inherited(own: Idempotency | None, written: Tree, common: Idempotency | None) -> Idempotency | None:
    """A route's own values where it gave some, the common ones for the rest."""
    if own is None:
        return None
    if not isinstance(written, dict):
        return common if written is None else (common or own)
    if common is None:
        return own
    given = {field.name: getattr(own, field.name) for field in fields(own) if field.name in written}
    return replace(common, **given)


def _child(tree: Tree, key: str) -> Tree:
    return tree.get(key) if isinstance(tree, dict) else None


def _mapping(tree: dict[str, Tree], key: str) -> dict[str, Tree]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}


def _list(tree: dict[str, Tree], key: str) -> list[Tree]:
    value = tree.get(key)
    return value if isinstance(value, list) else []
