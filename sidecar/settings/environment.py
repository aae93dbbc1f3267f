"""Settings from environment variables: ``SIDECAR_`` and the path, its steps joined by ``__``.

``SIDECAR_UPSTREAMS__APP__TIMEOUTS__CONNECT=2s`` sets ``upstreams.app.timeouts.connect``; an item of a list
goes by its position or its name, ``SIDECAR_LISTENERS__INGRESS__BIND``. A value in ``[…]`` or ``{…}`` is YAML.
A variable that is set to nothing counts as unset. Variables that begin with ``SIDECAR_`` and mean something
else (orchestrators set some for a service of that name) are left alone, unless they look like a misspelt
setting.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from sidecar.otlp.target import metrics_target, traces_target
from sidecar.settings.introspect import keys_of
from sidecar.settings.mistake import Mistake, dotted
from sidecar.settings.model import Settings
from sidecar.settings.overlay import Overlay
from sidecar.settings.yaml_source import Tree, parse_value
from sidecar.tracing.sampling import sampler_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "SIDECAR_"
DELIMITER = "__"
CONFIG = "SIDECAR_CONFIG"
"""Names the configuration file where no flag does."""

KNOWN = {
    "REDIS_URL": ("store",),
    "DATABASE_URL": ("database",),
    "OTEL_SERVICE_NAME": ("service",),
    "SIDECAR_ADMIN_TOKEN": ("admin", "token"),
}
"""Names that users already have; the setting's own ``SIDECAR_…`` wins over them."""


def read(environ: Mapping[str, str], below: dict[str, Tree]) -> tuple[Overlay, list[Mistake]]:
    """What the environment puts over ``below``, and what is wrong with its variables' names."""
    overlay = Overlay(below)
    mistakes: list[Mistake] = []
    for name, path in KNOWN.items():
        if environ.get(name):
            overlay.put(path, environ[name], name)
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in KNOWN or name == CONFIG or not environ[name]:
            continue
        steps = name.removeprefix(PREFIX).split(DELIMITER)
        if steps[0].lower() not in keys_of(Settings):
            mistakes += _unknown(name, steps)
            continue
        try:
            overlay.put(overlay.find(steps), _value(environ[name]), name)
        except ValueError as error:
            mistakes.append(Mistake(name, dotted(tuple(steps)).lower(), str(error)))
    return overlay, mistakes


def check_telemetry(environ: Mapping[str, str]) -> list[Mistake]:
    """What is wrong with OpenTelemetry's own variables, which tracing and metrics read by themselves."""
    readers: tuple[Callable[[Mapping[str, str]], object], ...] = (
        lambda variables: sampler_for(0, variables),
        traces_target,
        metrics_target,
    )
    mistakes: list[Mistake] = []
    for reader in readers:
        try:
            reader(environ)
        except ValueError as error:
            mistakes.append(Mistake("environment", "", str(error)))
    return mistakes


def _value(text: str) -> Tree:
    return parse_value(text) if text.lstrip().startswith(("[", "{")) else text


def _unknown(name: str, steps: list[str]) -> list[Mistake]:
    close = difflib.get_close_matches(steps[0].lower(), keys_of(Settings), n=1, cutoff=0.8)
    if not close and len(steps) == 1:
        return []
    cure = f": did you mean {PREFIX}{DELIMITER.join([close[0].upper(), *steps[1:]])}?" if close else ""
    return [Mistake(name, "", f"unknown setting{cure}")]
