"""The sidecar: a real ``sidecar run`` with its defaults, tracing set up but nothing sampled."""

from __future__ import annotations

import http.client
import json
import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import CORES, Stage, free_port, python_module
from bench.peers.base import Proxy


@dataclass(frozen=True, slots=True)
class Sidecar(Proxy):
    """A sidecar that runs.

    Attributes:
        admin_port: Where its admin API listens.
        ready_seconds: From the start of the process to the first 200 of ``/readyz``.
    """

    admin_port: int
    ready_seconds: float


def upstream(port: int, **settings: Any) -> dict[str, Any]:
    """An entry of ``upstreams:`` for a port of loopback."""
    return {"url": f"http://127.0.0.1:{port}", **settings}


def _configuration(
    folder: Path, port: int, admin_port: int, upstream_port: int, settings: dict[str, Any]
) -> str:
    standard = {
        "service": "bench",
        "listeners": [{"name": "ingress", "bind": f"127.0.0.1:{port}"}],
        "admin": {"bind": f"127.0.0.1:{admin_port}"},
        "tracing": {"sample": 0},
        "limits": {"connections": 20_000},
        "spool": {"dir": str(folder)},
    }
    upstreams = {"app": upstream(upstream_port)} | settings.pop("upstreams", {})
    everything_else = {"name": "default", "match": {"prefix": "/"}, "upstream": "app"}
    routes = [*settings.pop("routes", []), everything_else]
    return json.dumps(
        {**standard, **settings, "upstreams": upstreams, "routes": routes}, indent=1
    )  # JSON is YAML


def _is_ready(admin_port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", admin_port, timeout=1)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def start(
    stage: Stage,
    upstream_port: int,
    *,
    name: str = "sidecar",
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Sidecar:
    """Start a sidecar with one worker; its access log goes to a file.

    Args:
        stage: Owns the process and its files.
        upstream_port: Where the last route, which matches everything, leads.
        name: For tables, and of the files.
        environment: Variables beside PATH and HOME.
        settings: Keys of the configuration that take the place of the benchmark's; ``upstreams`` come beside
            ``app``, ``routes`` before the last one.

    Raises:
        NotReady: It did not get ready; the end of its log is in the message.
    """
    port, admin_port = free_port(), free_port()
    file = stage.write(
        f"{name}.yaml", _configuration(stage.folder, port, admin_port, upstream_port, settings)
    )
    command = python_module("sidecar", "run", "--config", str(file))
    began = time.monotonic()
    process = stage.start(
        name, command, cores=CORES.proxy, environment={**build_environment(), **(environment or {})}
    )
    stage.wait_until(lambda: _is_ready(admin_port), name, process)
    return Sidecar(name, port, process, admin_port, time.monotonic() - began)


def build_environment() -> dict[str, str]:
    """What makes a process run the sidecar in ``SIDECAR_BUILD`` (as a wheel has it), not the sources."""
    build = os.environ.get("SIDECAR_BUILD")
    return {"PYTHONPATH": str(Path(build).resolve()), "PYTHONSAFEPATH": "1"} if build else {}
