"""How the running process gets its configuration: from a child that reads it and goes away.

It costs the running process no memory and, on a reload, no time in the loop.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING

from sidecar.settings import child
from sidecar.settings.mistake import Mistake
from sidecar.settings.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.settings.model import Settings


class ChildExit(Exception):  # noqa: N818 - an event; not always an error
    """The child ended without an outcome, having said why: help, a usage error, or its own failure.

    Attributes:
        code: Its exit code; negative if a signal ended it.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"reading the configuration ended with exit code {code}")
        self.code = code


def outcome_of(started: child.Child) -> Outcome:
    """Wait for the child's outcome.

    Raises:
        ChildExit: There is none.
    """
    content, code = started.wait()
    if not content:
        raise ChildExit(code)
    outcome = pickle.loads(content)  # noqa: S301 - written by our own child
    assert isinstance(outcome, Outcome)
    return outcome


class Recompiler:
    """Reads the configuration again, by the same flags.

    Args:
        arguments: The flags of ``sidecar run``, as they were given.
        file: Name of the configuration file, whose changes are worth a reload; or ``None``.
    """

    def __init__(self, arguments: Sequence[str], file: str | None) -> None:
        self._arguments = tuple(arguments)
        self.file = file

    async def __call__(self) -> Settings | list[Mistake]:
        """The configuration as it is now, or what is wrong with it; the loop goes on meanwhile."""
        return await asyncio.to_thread(self._compile)

    def _compile(self) -> Settings | list[Mistake]:
        try:
            outcome = outcome_of(child.start(self._arguments))
        except (ChildExit, OSError) as error:
            return [Mistake(self.file or "", "", str(error))]
        return outcome.mistakes if outcome.settings is None else outcome.settings
