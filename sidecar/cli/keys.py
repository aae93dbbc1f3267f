"""`sidecar keys`: which idempotency records there are, and what becomes of those whose outcome is unknown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.admin_client import (
    DEFAULT_ADMIN,
    Admin,
    AdminClient,
    AsJson,
    Reason,
    Token,
    failures_told,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

keys_app = typer.Typer(help="Look at idempotency records, and decide unknown outcomes.", no_args_is_help=True)

_PAGE = 500
_WIDE = 1000
_COLUMNS = ("id", "state", "route", "created_at", "status", "correlation_id")

RecordId = Annotated[str, typer.Argument(metavar="ID", help="The record's id, as list and find print it.")]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'NAME: VALUE'", help="A header; can be repeated."),
]


@keys_app.command("list")
def list_records(
    *,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only those EXECUTING, COMPLETED or UNKNOWN.")
    ] = None,
    route: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this route.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """List records, in no particular order."""
    with failures_told():
        records = _records(AdminClient(admin, token), {"state": state, "route": route}, limit)
        if as_json:
            for record in records:
                print(json.dumps(record))
        else:
            _print_table(records)


@keys_app.command()
def show(record_id: RecordId, *, admin: Admin = DEFAULT_ADMIN, token: Token = None) -> None:
    """Show one record."""
    with failures_told():
        _print_record(AdminClient(admin, token).call("GET", "admin", "idempotency", record_id))


@keys_app.command()
def find(
    *,
    route: Annotated[str, typer.Option(metavar="NAME", help="The route that the request took.")],
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Its Idempotency-Key; - reads it from standard input.")
    ],
    header: Headers = None,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Show the record of a key; --header gives what tells callers apart, such as Authorization."""
    given = dict(map(_header, header or ()))
    content = {
        "route": route,
        "key": sys.stdin.readline().rstrip("\r\n") if key == "-" else key,
        "headers": given,
    }
    with failures_told():
        _print_record(AdminClient(admin, token).call("POST", "admin", "idempotency", "find", content=content))


@keys_app.command()
def release(
    record_id: RecordId, *, reason: Reason = "", admin: Admin = DEFAULT_ADMIN, token: Token = None
) -> None:
    """Free the key of an unknown outcome: the next request with it is executed."""
    with failures_told():
        AdminClient(admin, token).call(
            "POST", "admin", "idempotency", record_id, "release", content={"reason": reason}
        )
    print(f"released {record_id}")


@keys_app.command()
def resolve(
    record_id: RecordId,
    *,
    status: Annotated[int, typer.Option(min=200, max=599, help="Status of the response.")],
    header: Headers = None,
    body: Annotated[str, typer.Option(metavar="TEXT", help="Its body; @FILE reads it from a file.")] = "",
    reason: Reason = "",
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Decide an unknown outcome: from now on the key is answered with this response."""
    headers: dict[str, list[str]] = {}
    for name, value in map(_header, header or ()):
        headers.setdefault(name, []).append(value)
    content: dict[str, Any] = {"status": status, "headers": headers, "reason": reason}
    if body:
        content["body"] = _content_of(body)
    with failures_told():
        record = AdminClient(admin, token).call(
            "POST", "admin", "idempotency", record_id, "resolve", content=content
        )
    print(f"resolved {record_id} as {record['status']}")


def _records(client: AdminClient, wanted: dict[str, str | None], limit: int) -> Iterator[dict[str, Any]]:
    """Records page by page; a page may be empty although more follow."""
    cursor: str | None = None
    while limit > 0:
        query = {**wanted, "cursor": cursor, "limit": min(limit, _PAGE)}
        page = client.call("GET", "admin", "idempotency", query=query)
        yield from page["items"]
        limit -= len(page["items"])
        cursor = page["cursor"]
        if cursor is None:
            return


def _print_table(records: Iterable[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - for people alone
    from rich.table import Table  # noqa: PLC0415

    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for record in records:
        table.add_row(*("" if record[name] is None else str(record[name]) for name in _COLUMNS))
    if not table.rows:
        print("no records")
        return
    # A terminal's width cuts columns; what goes into a pipe keeps them whole.
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, markup=False, width=width).print(table)


def _print_record(record: dict[str, Any]) -> None:
    print(json.dumps(record, indent=2))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r}: expected NAME: VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _content_of(body: str) -> str:
    if not body.startswith("@"):
        return body
    try:
        return Path(body[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{body[1:]} cannot be read as text: {error}", param_hint="--body") from None
