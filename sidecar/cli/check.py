"""`sidecar check`: is this configuration right?"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer


def check(file: Annotated[str, typer.Argument(metavar="FILE", help="Configuration file, YAML.")]) -> None:
    """Validate a configuration: each mistake is printed as FILE:LINE: path.to.key: what is wrong."""
    from sidecar.settings.flags import Flags  # noqa: PLC0415 - for this command alone
    from sidecar.settings.load import load  # noqa: PLC0415
    from sidecar.settings.mistake import Invalid  # noqa: PLC0415

    try:
        settings = load(Flags(config=file), os.environ).settings
    except Invalid as invalid:
        print(*invalid.mistakes, sep="\n")
        sys.exit(1)
    print(f"{file}: good ({_count(settings.routes, 'route')}, {_count(settings.upstreams, 'upstream')})")


def _count(items: object, noun: str) -> str:
    number = len(items)  # type: ignore[arg-type]
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
