"""`sidecar demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the tour instead of staying up.")] = False,
) -> None:
    """Start an example service, the sidecar before it and some traffic, to try it on."""
    from sidecar.demo.run import run_demo  # noqa: PLC0415 - for this command alone

    sys.exit(run_demo(once=once))
