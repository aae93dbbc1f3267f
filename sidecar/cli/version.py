"""`sidecar version`."""

from __future__ import annotations

import platform

from sidecar.version import VERSION


def version() -> None:
    """Print the version of the sidecar and of the Python that runs it."""
    print(f"sidecar {VERSION} ({platform.python_implementation()} {platform.python_version()})")
