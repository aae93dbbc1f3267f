"""What several cases do alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.harness import CORES, ROOT, on_cores, python_module
from bench.load import Recipe, http_request, measure
from bench.peers.base import PeerMissing, Proxy
from bench.peers.sidecar import build_environment
from bench.servers.upstream import CREATED, HELLO

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Settings

GET_HELLO = Recipe(http_request("GET", "/hello"), 200, len(HELLO))
ORDER = b'{"item": "espresso machine", "amount": 24900, "currency": "EUR"}'
POST_ORDER = Recipe(http_request("POST", "/orders", body=ORDER), 201, len(CREATED))


def cpu_us(
    proxy: Proxy, recipe: Recipe, settings: Settings, *, connections: int | None = None
) -> Callable[[], float]:
    """One turn: CPU microseconds of ``proxy`` per answer."""

    def turn() -> float:
        return measure(
            proxy.port,
            recipe,
            proxy.pid,
            connections=connections or settings.connections,
            seconds=settings.seconds,
        ).cpu_us

    return turn


def where_installed(start: Callable[[], Proxy]) -> list[Proxy]:
    """A contender that not every machine has: alone in a list, or no one and a note on standard error."""
    try:
        return [start()]
    except PeerMissing as missing:
        print(f"not compared: {missing}", file=sys.stderr)
        return []


def work_us(module: str) -> dict[str, float]:
    """CPU microseconds of pieces of work: ``module`` prints them, a process of its own on the core."""
    with on_cores(CORES.proxy):
        done = subprocess.run(
            python_module(module),
            cwd=ROOT,
            env={**os.environ, **_modules()},
            stdout=subprocess.PIPE,
            check=True,
        )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _modules() -> dict[str, str]:
    """The environment in which the measured modules are those that the sidecar runs."""
    build = build_environment()
    return {**build, "PYTHONPATH": os.pathsep.join((build["PYTHONPATH"], str(ROOT)))} if build else {}
