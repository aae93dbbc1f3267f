"""The command line's commands. Each imports what it needs when it runs: the one that is used pays."""

from __future__ import annotations

import typer

from sidecar.cli.audit import audit_app
from sidecar.cli.check import check
from sidecar.cli.demo import demo
from sidecar.cli.dlq import dlq_app
from sidecar.cli.explain import explain
from sidecar.cli.keys import keys_app
from sidecar.cli.run import run
from sidecar.cli.schema import schema
from sidecar.cli.version import version

app = typer.Typer(
    help="A reverse proxy beside any HTTP service: idempotency, resilience, events, audit, metrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (run, check, schema, explain, demo, version):
    app.command()(command)
app.add_typer(audit_app, name="audit")
app.add_typer(dlq_app, name="dlq")
app.add_typer(keys_app, name="keys")
