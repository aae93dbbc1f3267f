"""The flags of ``sidecar run``; only the child that reads the configuration comes here."""

from __future__ import annotations

from typing import Annotated

import typer

from sidecar.settings.environment import CONFIG
from sidecar.settings.flags import Flags


def run(
    context: typer.Context,
    *,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", envvar=CONFIG, help="Configuration file, YAML.")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="Service to put the sidecar before; needs no file.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where requests come in. Default: 0.0.0.0:8080.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Port for operators. Default: 127.0.0.1:9901.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="memory:// or redis://… Default: memory://.")
    ] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help="Processes. Default: 1.")] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. Default: info.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="json or console. Default: json.")
    ] = None,
) -> None:
    """Run the sidecar: flags override the environment, which overrides the file."""
    context.obj(
        Flags(
            config=config,
            upstream=upstream,
            listen=listen,
            admin=admin,
            store=store,
            workers=workers,
            log_level=log_level,
            log_format=log_format,
        )
    )
