"""The command ``sidecar``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; ``run`` takes a path of its own, on which nothing heavy is imported."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        sys.exit(_run(arguments[1:]))
    from sidecar.cli.app import app  # noqa: PLC0415 - typer must not reach the running process

    app(prog_name="sidecar")


def _run(arguments: list[str]) -> int:
    """Start the sidecar; returns its exit code."""
    from sidecar.settings import child  # noqa: PLC0415 - for ``run`` alone

    # Next to nothing that is imported becomes garbage: seldom look for it until the memory is settled.
    gc.set_threshold(5_000, 1_000)
    started = child.start(arguments)
    # The child reads the configuration on another core while this one imports the runtime.
    from sidecar.app import run_app  # noqa: PLC0415 - see above
    from sidecar.settings.client import ChildExit, Recompiler, outcome_of  # noqa: PLC0415 - see above

    try:
        outcome = outcome_of(started)
    except ChildExit as ended:
        return ended.code
    if outcome.settings is None:
        print(*outcome.mistakes, sep="\n", file=sys.stderr)  # noqa: T201 - the logger is not configured yet
        return 1
    return run_app(outcome.settings, Recompiler(arguments, outcome.file))


if __name__ == "__main__":
    main()
