"""Starts what a case needs, each on its core, measures the contenders turn by turn, and ends everything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 15.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.005
_LOG_TAIL_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    Attributes:
        rounds: Turns that each contender gets.
        seconds: Length of one turn's measured part.
        connections: Keep-alive connections that send one request after another.
        idle_connections: Connections held open at once to weigh one.
        stream_bytes: Size of the body that a slow reader takes.
        records: Records put into Redis to see whether their number matters.
    """

    rounds: int = 5
    seconds: float = 2.0
    connections: int = 64
    idle_connections: int = 10_000
    stream_bytes: int = 2 << 30
    records: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for the proxy under test, all others for the load and what stands behind the proxy."""

    proxy: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Self:
        """Split the cores that this process may use; with a single one nothing is pinned."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) == 1:
            return cls(frozenset(usable), frozenset(usable))
        return cls(frozenset(usable[:1]), frozenset(usable[1:]))


CORES = Cores.of_this_machine()


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Move this process for a while; what it starts meanwhile stays there, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A TCP port of loopback that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class NotReady(Exception):  # noqa: N818 - says what happened
    """A process ended, or did not answer in time."""


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of this project with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


@dataclass(slots=True)
class Stage:
    """Owns the processes and the files of one case; leaving it ends and removes them.

    Attributes:
        folder: For configurations and logs.
    """

    folder: Path = field(init=False)
    _owned: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        folder = self._owned.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        self.folder = Path(folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def write(self, name: str, text: str) -> Path:
        """Put a file into the stage's folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: frozenset[int],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process; both its outputs go to ``NAME.log`` in the stage's folder."""
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        log = self._owned.enter_context((self.folder / f"{name}.log").open("wb"))
        with on_cores(cores):
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=clean | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._owned.callback(_end, process)
        return process

    def start_listening(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        cores: frozenset[int],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process and wait until it listens on ``port``.

        Raises:
            NotReady: It did not; the end of its log is in the message.
        """
        process = self.start(name, command, cores=cores, environment=environment)
        self.wait_until(lambda: accepts(port), name, process)
        return process

    def wait_until(self, ready: Callable[[], bool], name: str, process: subprocess.Popen[bytes]) -> None:
        """Return as soon as ``ready`` says so.

        Raises:
            NotReady: ``process`` has ended, or 15 seconds have passed; the end of its log is in the message.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if process.poll() is not None:
                why = f"ended with exit code {process.returncode} instead of getting ready"
            elif time.monotonic() > deadline:
                why = f"was not ready after {_START_SECONDS:g} s"
            else:
                time.sleep(_POLL_SECONDS)
                continue
            log = (self.folder / f"{name}.log").read_text(errors="replace")
            raise NotReady(f"{name} {why}\n{log[-_LOG_TAIL_CHARACTERS:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def take_turns(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure the contenders in turn, ``rounds`` times: A B C, C B A, A B C, …

    What slows the machine down for a while hits neighbours in the order alike, and turning the order round
    takes a steady drift out of their comparison.
    """
    results: dict[str, list[T]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            results[name].append(contenders[name]())
        order.reverse()
    return results
