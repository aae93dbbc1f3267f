"""Reloading: on SIGHUP, on a change of the file, and when an operator asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.audit_trail import AuditTrailUnusable
from sidecar.settings.restart import RestartNeeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sidecar.log import Log
    from sidecar.metrics.names import Metrics
    from sidecar.settings.client import Recompiler
    from sidecar.settings.model import Settings

_LOOK_SECONDS: Final = 1.0
_DRAINING: Final = "the sidecar is draining: it ends under the configuration in force"


class Reloader:
    """Compiles the configuration anew and puts it in force, one at a time.

    Args:
        recompile: Reads the configuration in a process of its own, so that the loop goes on meanwhile.
        apply: Puts settings in force, or raises ``OSError``, ``RestartNeeded`` or ``AuditTrailUnusable`` and
            changes nothing.

    Attributes:
        mistakes: What was wrong with the last configuration; empty when it was put in force.
    """

    def __init__(
        self,
        recompile: Recompiler,
        apply: Callable[[Settings], Awaitable[None]],
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._recompile = recompile
        self._apply = apply
        self._log = log
        self._reloads = metrics.config_reloads.labels()
        self.mistakes: list[str] = []
        self._failures = metrics.config_reload_failures.labels()
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._seen = self._look()

    def start(self) -> None:
        """Begin to wait for reasons to reload."""
        self._tasks = [asyncio.create_task(self._serve(), name="reload")]
        if self._recompile.file is not None:
            self._tasks.append(asyncio.create_task(self._watch(), name="watch"))

    def request(self) -> None:
        """Reload soon; requests of the same moment become one."""
        self._wanted.set()

    async def reload(self) -> list[str]:
        """Reload now; what is wrong with the file, or an empty list."""
        async with self._lock:
            self._seen = self._look()
            outcome = await self._recompile()
            mistakes = [str(mistake) for mistake in outcome] if isinstance(outcome, list) else []
            if self._closed:
                mistakes = [_DRAINING]
            elif not isinstance(outcome, list):
                try:
                    await self._apply(outcome)
                except (OSError, AuditTrailUnusable) as error:
                    mistakes = [str(error)]
                except RestartNeeded as needed:
                    mistakes = needed.mistakes
            self.mistakes = mistakes
            if mistakes:
                self._failures.value += 1
                self._log.error("reload failed", mistakes=mistakes)
            else:
                self._reloads.value += 1
                self._log.info("reloaded")
            return mistakes

    async def close(self) -> None:
        """Wait no more, give up what waits for the file to be read, and refuse what operators ask for."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.reload()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next reason to reload is to be heard
                self._failures.value += 1
                self._log.crash("reload failed", error)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._look() != self._seen:
                self._seen = self._look()
                self.request()

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one version of the file from the next, a replaced file or symbolic link included."""
        if self._recompile.file is None:
            return None
        try:
            found = Path(self._recompile.file).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
