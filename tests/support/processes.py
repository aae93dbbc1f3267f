"""Real processes under test: started, watched line by line, stopped by their id."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]


class Lines:
    """The lines of a pipe, collected by a thread so that the process at its other end never blocks."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lines: list[str] = []
        self._grown = threading.Condition()
        self._ended = False
        self._reading = threading.Event()
        self._reading.set()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        for line in self._pipe:
            with self._grown:
                self._lines.append(line.rstrip("\n"))
                self._grown.notify_all()
            self._reading.wait()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def __len__(self) -> int:
        with self._grown:
            return len(self._lines)

    def all(self, start: int = 0) -> list[str]:
        """The lines so far, from the one with number ``start``."""
        with self._grown:
            return self._lines[start:]

    def wait(
        self, wanted: Callable[[str], bool], what: str, *, start: int = 0, within: float = PATIENCE
    ) -> str:
        """The first line from number ``start`` on that is ``wanted``, now or soon."""
        seen = start

        def found() -> str | None:
            nonlocal seen
            while seen < len(self._lines):
                seen += 1
                if wanted(self._lines[seen - 1]):
                    return self._lines[seen - 1]
            return None

        with self._grown:
            hit: str | None = None

            def ready() -> bool:
                nonlocal hit
                hit = found()
                return hit is not None or self._ended

            self._grown.wait_for(ready, within)
            if hit is None:
                tail = "\n".join(self._lines[-20:])
                raise AssertionError(f"no such line within {within:g} s: {what}; the last ones:\n{tail}")
            return hit

    def stop_reading(self) -> Callable[[], None]:
        """Let the pipe fill up; what is returned goes on reading."""
        self._reading.clear()
        return self._reading.set

    def join(self) -> None:
        """Wait until the other end of the pipe is closed."""
        self._thread.join(PATIENCE)


class Process:
    """A child process with its own group; ``stdout`` and ``stderr`` are :class:`Lines`.

    ``env`` is its whole environment; without it, it has the one of the tests.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        name: str = "",
    ) -> None:
        self.name = name or arguments[0]
        environment = {
            "PYTHONPATH": str(ROOT),  # unless `env` says where else the sidecar is
            **(os.environ if env is None else env),
            "PYTHONUNBUFFERED": "1",
        }
        self._child = subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )
        self.stdout = Lines(self._child.stdout)
        self.stderr = Lines(self._child.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, or ``None`` while it runs; a signal counts negative."""
        return self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this one process."""
        self._child.send_signal(number)

    def wait(self, within: float = PATIENCE) -> int:
        """The exit code, once it has ended and its output has been read to the end."""
        try:
            code = self._child.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {within:g} s") from None
        self.stdout.join()
        self.stderr.join()
        return code

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM, then wait; SIGKILL to its group, and an error, when that does not end it."""
        if self.exit_code is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(within)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to whatever is left of its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait(PATIENCE)

    def wait_listening(self, host: str, port: int, within: float = PATIENCE) -> None:
        """Wait until it accepts connections at ``host:port``."""

        def accepts() -> bool:
            if self.exit_code is not None:
                raise AssertionError(f"{self.name} ended with {self.exit_code}:\n{self.output()}")
            with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
                return True
            return False

        eventually(accepts, f"{self.name} listens on {host}:{port}", within=within)

    def output(self) -> str:
        """All that it has written so far, for messages."""
        return "\n".join([*self.stdout.all(), *self.stderr.all()])

    def resident_bytes(self) -> int:
        """Memory in use (resident set) of the process and all that it started."""
        return sum(_resident(pid) for pid in _tree(self.pid))


def _tree(pid: int) -> list[int]:
    members = [pid]
    for member in members:  # grows as it is walked
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{member}/task").iterdir():
                members += map(int, (thread / "children").read_text().split())
    return members


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
