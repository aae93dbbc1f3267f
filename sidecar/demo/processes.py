"""The demo's processes: the example service and a real ``sidecar run``, ended with the demo."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

_HOST = "127.0.0.1"
_SERVICE_PORT = 3000
_LISTEN_PORT = 8080
_ADMIN_PORT = 9901
_STOP_SECONDS = 5.0
_LOG_TAIL_CHARACTERS = 2000
_TAKEN = os.strerror(errno.EADDRINUSE).lower()
# The demo needs nothing and touches nothing: what is set up for other sidecars does not reach it.
_FOREIGN_SETTINGS = ("SIDECAR_", "OTEL_", "REDIS_URL", "DATABASE_URL")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything listens on loopback, as ``HOST:PORT``."""

    service: str
    listen: str
    admin: str

    @classmethod
    def choose(cls) -> Self:
        """The usual ports, and a free one for each that is taken."""
        return cls(*(f"{_HOST}:{_free(port)}" for port in (_SERVICE_PORT, _LISTEN_PORT, _ADMIN_PORT)))


def _free(wanted: int) -> int:
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server((_HOST, port)) as probe:
            free: int = probe.getsockname()[1]
            return free
    raise OSError(f"expected a free port on {_HOST}, found none")


@dataclass(slots=True)
class Processes:
    """Starts processes in ``folder`` and ends them all when left.

    Each runs in a session of its own: a Ctrl-C in the terminal reaches the demo alone, which then ends them
    in order.
    """

    folder: Path
    _running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """End all, the last one first."""
        while self._running:
            await _end(self._running[next(reversed(self._running))])
            self._running.popitem()

    async def start(self, name: str, *arguments: str) -> None:
        """Run ``python -m`` with ``arguments``; what it prints goes to the log ``name``."""
        environment = {key: os.environ[key] for key in os.environ if not key.startswith(_FOREIGN_SETTINGS)}
        with self.log(name).open("wb") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                cwd=self.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """The file that holds what a process prints."""
        return self.folder / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The end of what a process has printed."""
        return self.log(name).read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]

    def has_said(self, name: str, words: str) -> bool:
        """Whether a process has printed ``words``."""
        return words in self.log(name).read_text(errors="replace")

    def found_port_taken(self, name: str) -> bool:
        """Whether a process ended because somebody else had taken its port meanwhile."""
        return _TAKEN in self.log_tail(name).lower()

    async def first_to_end(self) -> str:
        """Wait until one of the processes ends by itself; its name."""
        waits = {asyncio.ensure_future(process.wait()): name for name, process in self._running.items()}
        try:
            ended, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[ended.pop()]
        finally:
            for wait in waits:
                wait.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
