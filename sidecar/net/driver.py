"""Runs one coroutine per connection, resumed by the callback that has what it waits for.

An :class:`asyncio.Task` resumes a coroutine by way of a future, a handle and one more turn of the loop: three
microseconds a request, where a proxied request has some twenty. Here the callback that brings the octets
resumes the coroutine itself, as deep in the stack as it is. Two rules follow from that:

- whoever calls :meth:`Driver.resume` or :meth:`Driver.throw` does so last: when the call returns, everything
  may have changed;
- the coroutine is no task. It may await futures and tasks; what needs a current task of its own
  (:func:`asyncio.timeout`) is awaited as a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class _Park:
    """Awaited by a coroutine that waits to be resumed."""

    __slots__ = ()

    def __await__(self) -> Generator[_Park, Any, Any]:
        return (yield self)


PARK: Final = _Park()


class Driver:
    """Drives a coroutine.

    Attributes:
        parked: Whether the coroutine awaits :data:`PARK`; only then can it be resumed or thrown into.
        done: Whether it has ended.
    """

    __slots__ = ("_awaited", "_coroutine", "_on_crash", "done", "parked")

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], on_crash: Callable[[BaseException], None]
    ) -> None:
        """Drive ``coroutine``; ``on_crash`` is told of an error that it does not handle."""
        self._coroutine = coroutine
        self._on_crash = on_crash
        self._awaited: asyncio.Future[Any] | None = None
        self.parked = False
        self.done = False

    def start(self) -> None:
        """Run until it first waits."""
        self._step(None)

    def resume(self, value: object = None) -> None:
        """Give a parked coroutine what it waits for; nothing happens if it is not parked."""
        if self.parked:
            self.parked = False
            self._step(value)

    def throw(self, error: BaseException) -> None:
        """Raise ``error`` where the coroutine is parked; nothing happens if it is not."""
        if self.parked:
            self.parked = False
            self._step(None, error)

    def cancel(self) -> None:
        """Raise :class:`asyncio.CancelledError` wherever it waits."""
        if self.parked:
            self.throw(asyncio.CancelledError())
        elif self._awaited is not None:
            self._awaited.cancel()

    def _step(self, value: object, error: BaseException | None = None) -> None:
        coroutine = self._coroutine
        try:
            waited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration:
            self.done = True
        except BaseException as crash:  # noqa: BLE001 - a driver stands where a task does: nothing is above it
            self._crash(crash)
        else:
            if waited is PARK:
                self.parked = True
            else:
                self._await(waited)

    def _await(self, future: asyncio.Future[Any]) -> None:
        """The coroutine awaits a future: go on when it is done."""
        future._asyncio_future_blocking = False  # noqa: SLF001 - the protocol of PEP 492 awaitables
        self._awaited = future
        future.add_done_callback(self._future_done)

    def _future_done(self, _: asyncio.Future[Any]) -> None:
        self._awaited = None
        self._step(None)

    def _crash(self, error: BaseException) -> None:
        self.done = True
        if not isinstance(error, asyncio.CancelledError):
            self._on_crash(error)
