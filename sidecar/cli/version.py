"""`sidecar version`."""

from __future__ import annotations

import platform

from sidecar.version import VERSION


def version() -> None:
    """Print the version of the sidecar and of the Python that runs it."""
    implementation = platform.python_implementation()
    print(f"sidecar {VERSION} ({implementation} {platform.python_version()})")
