"""Starts the child that reads the configuration.

Apart from everything else, since nothing may be imported before the child is on its way: what the parent
loads afterwards costs no time, because the child takes longer.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False  # as type checkers know it: ``typing`` alone would delay the child by a tenth
if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT = 60.0
"""Seconds of silence after which a child is given up; even on a busy machine it takes one or two."""

_CHUNK = 1 << 16
_SIGKILL = 9  # the module ``signal`` takes longer to import than the child to start


class Child:
    """A child at work."""

    def __init__(self, process: int, pipe: int) -> None:
        self._process = process
        self._pipe = pipe

    def wait(self) -> tuple[bytes, int]:
        """What it wrote, and its exit code, once it has ended; negative if a signal ended it."""
        try:
            content = self._read()
        finally:
            os.close(self._pipe)
        _, status = os.waitpid(self._process, 0)
        return content, os.waitstatus_to_exitcode(status)

    def _read(self) -> bytes:
        chunks: list[bytes] = []
        while True:
            ready, _, _ = select.select([self._pipe], [], [], TIMEOUT)
            if not ready:
                os.kill(self._process, _SIGKILL)
                return b""
            chunk = os.read(self._pipe, _CHUNK)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


def start(arguments: Sequence[str]) -> Child:
    """Start a child that reads the configuration.

    Args:
        arguments: The flags of ``sidecar run``, as they were given.
    """
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        # -P: a file in the working directory must not stand in for a library.
        command = [sys.executable, "-P", "-m", "sidecar.settings.compile", str(writing), *arguments]
        no_input = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        process = os.posix_spawn(sys.executable, command, os.environ, file_actions=no_input)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Child(process, reading)
