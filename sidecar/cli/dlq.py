"""`sidecar dlq`: what could not be delivered, and what becomes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sidecar.cli.admin_client import (
    DEFAULT_ADMIN,
    REFUSED,
    Admin,
    AdminClient,
    AsJson,
    Reason,
    Token,
    UnreachableError,
    failures_told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

dlq_app = typer.Typer(help="Look at dead letters, and retry, edit or remove them.", no_args_is_help=True)

_QUEUES: Final = ("admin", "dlq")
_PAGE: Final = 100
_WIDE: Final = 1000
_ID: Final = 36  # characters that are never cut: what the other commands ask for
_LONGEST_ERROR: Final = 60
_QUEUE_COLUMNS: Final = ("service", "event_type", "depth", "oldest_at")
_RECORD_COLUMNS: Final = ("id", "stored_at", "reason", "attempts", "status", "error")
_RESULTS: Final = ("delivered", "failed", "held", "gone", "unreadable", "would_retry")

EventType = Annotated[str, typer.Argument(metavar="TYPE", help="The event type, or HTTP_REQUEST.")]
RecordId = Annotated[str, typer.Argument(metavar="ID", help="The record's id, as list prints it.")]
Service = Annotated[
    str | None, typer.Option(metavar="NAME", help="Whose dead letters; by default this sidecar's first.")
]
CorrelationId = Annotated[str | None, typer.Option(metavar="ID", help="Only those with this correlation id.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only those stored then or later, as 2024-01-31T12:00:00Z."),
]


@dlq_app.command("list")
def list_dead_letters(
    event_type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="An event type. Without one, queues are listed.")
    ] = None,
    *,
    service: Service = None,
    correlation_id: CorrelationId = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = _PAGE,
    as_json: AsJson = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """List the queues, or the records of one, newest first."""
    client = AdminClient(admin, token)
    with failures_told():
        if event_type is None:
            items = client.call("GET", *_QUEUES)["items"]
        else:
            query = {"service": service, "correlation_id": correlation_id, "since": since}
            items = list(_records(client, event_type, limit, query))
    if as_json:
        _print_json(items)
    elif event_type is None:
        _print_table(_QUEUE_COLUMNS, [[item[name] for name in _QUEUE_COLUMNS] for item in items])
    else:
        _print_table(_RECORD_COLUMNS, [_row(item) for item in items])


@dlq_app.command()
def show(
    event_type: EventType,
    record_id: RecordId,
    *,
    service: Service = None,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Print one record whole, as JSON."""
    with failures_told():
        query = {"service": service}
        record = AdminClient(admin, token).call("GET", *_QUEUES, event_type, record_id, query=query)
    _print_json(record)


@dlq_app.command()
def retry(
    event_type: EventType,
    record_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The record's id; or give --all.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Retry many, the oldest first, one by one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --all: only count them.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="With --all: at most so many.")] = None,
    correlation_id: CorrelationId = None,
    since: Since = None,
    service: Service = None,
    reason: Reason = "",
    as_json: AsJson = False,
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Send one record, or many, to where it failed; what is delivered is removed.

    Exit status: 0 if all are delivered, 1 if one is not (it is kept), 2 if there is no sidecar to ask.
    """
    if every == (record_id is not None):
        raise typer.BadParameter("give either an ID or --all", param_hint="ID")
    if not every and (dry_run or limit or correlation_id or since):
        raise typer.BadParameter("--dry-run, --limit and filters go with --all", param_hint="ID")
    client, query = AdminClient(admin, token), {"service": service}
    if record_id is not None:
        with failures_told():
            path = (*_QUEUES, event_type, record_id, "retry")
            answer = client.call("POST", *path, content={"reason": reason}, query=query)
        if as_json:
            _print_json(answer)
        else:
            print(f"{record_id} is delivered and removed")
        return
    chosen = {"correlation_id": correlation_id, "since": since}
    wanted: dict[str, Any] = {"filter": {name: value for name, value in chosen.items() if value}}
    wanted |= {"dry_run": dry_run, "limit": limit, "reason": reason}
    with failures_told():
        summary = _retry_many(client, event_type, wanted, query)
    if as_json:
        _print_json(summary)
    else:
        _print_summary(summary)
    if not dry_run and summary.get("delivered", 0) < summary["total"]:
        sys.exit(REFUSED)


@dlq_app.command()
def edit(
    event_type: EventType,
    record_id: RecordId,
    *,
    payload: Annotated[
        str, typer.Option(metavar="FILE", help="The new payload; - reads it from standard input.")
    ],
    service: Service = None,
    reason: Reason = "",
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Put a copy with another payload in the record's place, under a new idempotency key.

    The payload of an event is JSON. That of a request is its body, as it is.
    """
    try:
        text = sys.stdin.read() if payload == "-" else Path(payload).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise typer.BadParameter(f"it cannot be read as text: {error}", param_hint="--payload") from None
    client = AdminClient(admin, token)
    path, query = (*_QUEUES, event_type, record_id), {"service": service}
    with failures_told():
        is_request = "request" in client.call("GET", *path, query=query)
        content = {"payload": text if is_request else _decoded(text), "reason": reason}
        edited = client.call("PUT", *path, content=content, query=query)
    print(f"{record_id} is edited; its idempotency key is {edited['idempotency_key'] or 'none'}")


@dlq_app.command()
def remove(
    event_type: EventType,
    record_id: RecordId,
    *,
    service: Service = None,
    reason: Reason = "",
    admin: Admin = DEFAULT_ADMIN,
    token: Token = None,
) -> None:
    """Remove one record for good, without delivering it."""
    with failures_told():
        query = {"service": service, "reason": reason or None}
        AdminClient(admin, token).call("DELETE", *_QUEUES, event_type, record_id, query=query)
    print(f"{record_id} is removed")


def _records(
    client: AdminClient, event_type: str, limit: int, query: dict[str, str | None]
) -> Iterator[dict[str, Any]]:
    """Records page by page; a page may be empty although more follow."""
    cursor: str | None = None
    while limit > 0:
        asked = {**query, "limit": min(limit, _PAGE), "cursor": cursor}
        page = client.call("GET", *_QUEUES, event_type, query=asked)
        yield from page["items"]
        limit -= len(page["items"])
        cursor = page["cursor"]
        if cursor is None:
            return


def _retry_many(
    client: AdminClient, event_type: str, wanted: dict[str, Any], query: dict[str, str | None]
) -> dict[str, Any]:
    """Follow the retry with a bar on the terminal; what came of it all."""
    with _progress() as bar:
        task = bar.add_task(f"retrying {event_type}", total=None)
        for told in client.events("POST", *_QUEUES, event_type, "retry", content=wanted, query=query):
            if "id" not in told:
                summary: dict[str, Any] = told
                return summary
            bar.update(task, completed=told["tried"], total=told["total"])
    raise UnreachableError("the sidecar ended before the retry did: list tells what is left")


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}", param_hint="--payload") from None


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _print_summary(summary: dict[str, Any]) -> None:
    results = [f"{summary[name]} {name.replace('_', ' ')}" for name in _RESULTS if summary.get(name)]
    print(f"{summary['tried']} of {summary['total']} tried: {', '.join(results) or 'nothing to do'}")
    for failure in summary["failures"]:
        print(f"  {failure['id']}: {failure['error']}", file=sys.stderr)
    if summary["stopped"]:
        print(f"stopped, the rest would fail in the same way: {summary['stopped']}", file=sys.stderr)


def _row(record: dict[str, Any]) -> list[object]:
    error = record["error"]
    shown = error if len(error) <= _LONGEST_ERROR else f"{error[: _LONGEST_ERROR - 1]}…"
    attempts = len(record["attempts"])
    return [record["id"], record["stored_at"], record["reason"], attempts, record["status"], shown]


def _print_table(columns: tuple[str, ...], rows: list[list[object]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - for people alone
    from rich.table import Table  # noqa: PLC0415

    if not rows:
        print("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, min_width=_ID if column == "id" else None)
    for row in rows:
        table.add_row(*map(str, row))
    # A terminal's width cuts columns; what is piped to another program keeps them whole.
    width = None if sys.stdout.isatty() else _WIDE
    Console(highlight=False, markup=False, width=width).print(table, no_wrap=True)


def _progress() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - for people alone
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
