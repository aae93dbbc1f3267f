"""An event loop whose time stands still until a test moves it, and that runs only when a test says so."""

from __future__ import annotations

import asyncio
from asyncio import events
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class ManualLoop(asyncio.SelectorEventLoop):
    """Is the running loop from ``with`` on; what is ready runs in :meth:`settle`, timers in :meth:`advance`.

    Errors that nobody caught (in callbacks, in tasks that nobody awaited) fail the test when it ends.

    Attributes:
        at_end: Called when it ends, so that nothing is left hanging.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__()
        self.at_end: list[Callable[[], None]] = []
        self._uncaught: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self._uncaught.append(context))

    def __enter__(self) -> Self:
        events._set_running_loop(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.settle()
            for end in self.at_end:
                end()
            for task in asyncio.all_tasks(self):
                task.cancel()
            self.settle()
        finally:
            events._set_running_loop(None)
            self.close()
        if kind is None:
            assert self._uncaught == []

    def time(self) -> float:
        """The loop's time, in seconds."""
        return self._now

    @property
    def quiet(self) -> int:
        """A descriptor on which nothing ever arrives."""
        return self._ssock.fileno()

    def settle(self) -> None:
        """Run everything that is ready, and what becomes ready by that."""
        while True:
            self.call_soon(lambda: None)  # so that the selector does not wait
            self._run_once()
            if not self._ready:
                return

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: timers are called at their time, one after another."""
        until = self._now + seconds
        self.settle()
        while self._scheduled and self._scheduled[0]._when <= until:
            self._now = max(self._now, self._scheduled[0]._when)
            self.settle()
        self._now = until
        self.settle()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of ``coroutine``, which must not wait for time."""
        task = self.create_task(coroutine)
        self.settle()
        return task.result()
