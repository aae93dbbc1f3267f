"""`sidecar version`."""

from __future__ import annotations

import platform
from importlib import metadata


def version() -> None:
    """Print the version of the sidecar and of the Python that runs it."""
    implementation = platform.python_implementation()
    print(f"sidecar {metadata.version('sidecar-proxy')} ({implementation} {platform.python_version()})")
