"""The child process that reads the configuration, so that the running one never loads a validator.

``python -m sidecar.settings.compile DESCRIPTOR FLAGS…`` understands the flags of ``sidecar run``, and writes
the outcome to the pipe with that number, pickled. Help and usage errors it prints itself, and writes nothing.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sidecar.settings.flags import Flags
from sidecar.settings.mistake import Invalid
from sidecar.settings.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Parse the flags, and deliver what they make of the configuration."""
    # The process lives for a fifth of a second, most of it importing; the collector would add a tenth.
    gc.disable()
    descriptor, *arguments = sys.argv[1:]

    def deliver(flags: Flags) -> None:
        content = pickle.dumps(_read(flags), protocol=pickle.HIGHEST_PROTOCOL)
        # Whoever was told to stop while it starts reads no more.
        with suppress(BrokenPipeError), open(int(descriptor), "wb") as pipe:  # noqa: PTH123 - a descriptor
            pipe.write(content)

    flags = plain_flags(arguments)
    if flags is not None:
        deliver(flags)
        # Taking the interpreter apart would be a tenth of the child's life, and the parent waits for its end.
        os._exit(0)
    from sidecar.cli.app import app  # noqa: PLC0415 - for help and usage errors alone

    app(["run", *arguments], prog_name="sidecar", obj=deliver)


def plain_flags(arguments: Sequence[str]) -> Flags | None:
    """The flags where ``arguments`` are nothing but known ones with values; ``None`` leaves them to typer.

    Importing typer would be a fifth of the time that the sidecar takes to start.
    """
    known = {"--" + name.replace("_", "-"): name for name in Flags.__slots__}
    values: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if not separator:
            value = next(rest, "-")
        if flag not in known or value.startswith("-"):
            return None
        values[known[flag]] = value
    return Flags(**values)


def _read(flags: Flags) -> Outcome:
    # Otherwise pydantic reads what every installed package says of itself, in search of plugins that would
    # have no business here.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    from sidecar.settings.load import load  # noqa: PLC0415 - after the collector is off

    try:
        loaded = load(flags, os.environ)
    except Invalid as invalid:
        return Outcome(flags.config, None, invalid.mistakes)
    return Outcome(loaded.file, loaded.settings, [])


if __name__ == "__main__":
    main()
