"""``python -m bench``: measure, print the table, and exit with 1 where a promise is not kept."""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from bench import machine, report
from bench.cases import CASES
from bench.harness import NotReady, Settings
from bench.load import BrokenAnswer

if TYPE_CHECKING:
    from bench.figures import Row

_SPARE_FILES = 500


def _arguments() -> argparse.Namespace:
    standard = Settings()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--list", action="store_true", help="show the cases and exit")
    parser.add_argument(
        "--only", action="append", choices=CASES, metavar="CASE", help="run this one; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=standard.rounds, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="length of a turn")
    parser.add_argument("--connections", type=int, default=standard.connections)
    parser.add_argument("--idle-connections", type=int, default=standard.idle_connections)
    parser.add_argument(
        "--stream-mib", type=int, default=standard.stream_bytes >> 20, help="for slow readers"
    )
    parser.add_argument("--records", type=int, default=standard.records, help="in the full Redis")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args()


def _settings(given: argparse.Namespace) -> Settings:
    return Settings(
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        idle_connections=min(given.idle_connections, _allow_open_files() - _SPARE_FILES),
        stream_bytes=given.stream_mib << 20,
        records=given.records,
    )


def _allow_open_files() -> int:
    """Raise the limit of open files, which the proxies inherit, as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _list() -> None:
    for name, run in CASES.items():
        module = sys.modules[run.__module__]
        print(f"{name:18} {(module.__doc__ or '').splitlines()[0]}")


def _measure(names: list[str], settings: Settings, console: Console) -> tuple[list[Row], list[str]]:
    """The rows of all cases, and what went wrong in those that gave none."""
    rows: list[Row] = []
    failures: list[str] = []
    for name in names:
        console.print(f"[dim]{time.strftime('%H:%M:%S')} {name} …[/]")
        try:
            rows += CASES[name](settings)
        except (BrokenAnswer, NotReady) as failure:
            failures.append(f"{name}: {failure}")
            console.print(f"{name}: {failure}", style="red", markup=False)
    return rows, failures


def _stop(*_: object) -> NoReturn:
    """Leave by the way that ends every process that was started."""
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    """Run what the command line asks for; 0 where every promise was kept, else 1."""
    given, console, errors = _arguments(), Console(), Console(stderr=True)
    if given.list:
        _list()
        return 0
    signal.signal(signal.SIGTERM, _stop)
    rows, failures = _measure(given.only or list(CASES), _settings(given), errors)
    described = machine.describe()
    console.print(report.table(rows))
    console.print(f"Measured on: {described}.", highlight=False)
    if given.json:
        given.json.write_text(report.as_json(rows, described))
    if given.markdown:
        given.markdown.write_text(report.markdown(rows, described))
    missed = [row for row in rows if row.met is False]
    for failure in failures:
        errors.print("not measured:", failure, style="red", markup=False)
    for row in missed:
        errors.print(f"missed: {row.what} beside {row.against or 'its limit'}", style="red", markup=False)
    return 1 if failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
