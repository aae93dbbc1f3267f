"""`sidecar audit`: is the audit trail as it was written, what does it say, and what could not be written?"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.audit.chain import Mark
    from sidecar.audit.export import Filter
    from sidecar.settings.model import Settings

audit_app = typer.Typer(help="Verify and read the audit trail.", no_args_is_help=True)

_CANNOT = 2
_ANCHOR = re.compile(r"([0-9]{1,19}):([0-9a-f]{64})")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

_Config = Annotated[
    str | None, typer.Option(metavar="FILE", envvar="SIDECAR_CONFIG", help="Configuration file, YAML.")
]
_Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar=["SIDECAR_DATABASE", "DATABASE_URL"],
        help="postgresql://… of a role that may read the trail. Default: the configuration's database.",
    ),
]


@audit_app.command("verify")
def verify_trail(
    *,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SEQ:HASH", help="A row that was noted earlier, as verify prints it; can be repeated."
        ),
    ] = None,
    database: _Database = None,
    config: _Config = None,
) -> None:
    """Recompute the hash chain of the audit trail.

    Exit status: 0 if it is whole, 1 if it is not (the first row at fault is named), 2 if it cannot be read.
    """
    from sidecar.audit.reading import ReadError  # noqa: PLC0415 - asyncpg, for these commands alone
    from sidecar.audit.verify import verify  # noqa: PLC0415

    anchors = [_anchor(text) for text in anchor or ()]
    url = _database_url(database, config)
    try:
        with _progress("verifying") as progress:
            found = asyncio.run(verify(url, anchors=anchors, progress=progress))
    except ReadError as error:
        _stop(str(error))
    if found.fault:
        print(f"{found.rows} rows are whole, then: {found.fault}")
        sys.exit(1)
    print(f"{found.rows} rows are whole; the last one is {found.head}")


@audit_app.command("export")
def export_trail(
    *,
    request_id: Annotated[
        str | None, typer.Option(metavar="UUID", help="Only rows about this request.")
    ] = None,
    correlation_id: Annotated[str | None, typer.Option(metavar="ID", help="Only rows of this call.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only rows from this moment on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only rows from before this moment, UTC.")] = None,
    database: _Database = None,
    config: _Config = None,
) -> None:
    """Print rows as JSON lines, in the order in which they were written."""
    from sidecar.audit.export import Filter  # noqa: PLC0415 - asyncpg, for these commands alone
    from sidecar.audit.reading import ReadError  # noqa: PLC0415

    if request_id is not None and _UUID.fullmatch(request_id) is None:
        raise typer.BadParameter(f"{request_id!r} is no UUID", param_hint="--request-id")
    chosen = Filter(request_id, correlation_id, _in_utc(since), _in_utc(until))
    try:
        asyncio.run(_print_rows(_database_url(database, config), chosen))
    except ReadError as error:
        _stop(str(error))


@audit_app.command()
def rejected(
    *,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove them from the spool once printed.")
    ] = False,
    spool: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="SIDECAR_SPOOL__DIR",
            help="The spool's folder. Default: that of the configuration, or ./spool.",
        ),
    ] = None,
    config: _Config = None,
) -> None:
    """Print, as JSON lines, changes that could not become a row, with the reason."""
    from sidecar.spool import SpoolError  # noqa: PLC0415 - SQLite, for this command alone

    folder = spool or Path(_settings(config).spool.dir if config else "spool")
    try:
        asyncio.run(_print_rejected(folder, remove=remove))
    except SpoolError as error:
        _stop(str(error))


async def _print_rows(url: str, chosen: Filter) -> None:
    from sidecar.audit.export import export  # noqa: PLC0415 - asyncpg, for this command alone

    async for line in export(url, chosen):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


async def _print_rejected(folder: Path, *, remove: bool) -> None:
    from sidecar.audit.record import REJECTED  # noqa: PLC0415 - for this command alone
    from sidecar.spool.model import FILE_NAME  # noqa: PLC0415 - for this command alone
    from sidecar.spool.spool import Spool  # noqa: PLC0415 - SQLite, for this command alone

    if not (folder / FILE_NAME).exists():
        _stop(f"there is no spool in {folder}")
    spool = Spool(folder)
    await spool.open()
    try:
        last = 0
        while items := await spool.peek(REJECTED, 100, after=last):
            for item in items:
                print(item.payload.decode())
            last = items[-1].id
        if remove:
            await spool.discard(REJECTED, last)
    finally:
        await spool.close()


def _database_url(database: str | None, config: str | None) -> str:
    url = database or (_settings(config).database if config else None)
    if url is None:
        _stop("which database? Give --database, DATABASE_URL, or a --config that names one")
    return url


def _settings(config: str | None) -> Settings:
    from sidecar.settings.flags import Flags  # noqa: PLC0415 - pydantic, where a file must be read
    from sidecar.settings.load import load  # noqa: PLC0415
    from sidecar.settings.mistake import Invalid  # noqa: PLC0415

    try:
        return load(Flags(config=config), os.environ).settings
    except Invalid as invalid:
        _stop("\n".join(map(str, invalid.mistakes)))


def _anchor(text: str) -> Mark:
    from sidecar.audit.chain import Mark  # noqa: PLC0415 - for this command alone

    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r}: expected a row's number, ':', and 64 hexadecimal digits")
    return Mark(int(found[1]), found[2])


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=moment.tzinfo or UTC)


def _stop(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(_CANNOT)


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; nothing where standard error is none."""
    from rich.console import Console  # noqa: PLC0415 - for these commands alone
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
