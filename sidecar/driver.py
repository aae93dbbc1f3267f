"""Runs one coroutine per connection, resumed by the callback that has what it waits for.

An :class:`asyncio.Task` resumes a coroutine by way of a future, a handle and one more turn of the loop: three
microseconds a request, where a proxied request has some twenty. Here the callback that brings the octets
resumes the coroutine itself, as deep in the stack as it is. Two rules follow from that:

- whoever calls :meth:`Driver.resume` or :meth:`Driver.throw` does so last: when the call returns, everything
  may have changed;
- the coroutine is no task. It may await futures and tasks; what needs a current task of its own
  (:func:`asyncio.timeout`) is awaited as a task.

What has many answers to give, as a connection to a store has, gives them by :class:`DirectFuture`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context


class _Park:
    """Awaited by a coroutine that waits to be resumed."""

    __slots__ = ()

    def __await__(self) -> Generator[_Park, Any, Any]:
        return (yield self)


PARK: Final = _Park()

_PENDING: Final = 0
_DONE: Final = 1
_FAILED: Final = 2
_CANCELLED: Final = 3


class DirectFuture:
    """A future that resumes the driver that awaits it in the very call that gives the result.

    A task may await it as well, and is woken by the loop as by any future: it has the methods of
    :class:`asyncio.Future` that tasks, :func:`asyncio.gather` and :func:`asyncio.shield` call.

    Whoever sets the result does so last, as with :meth:`Driver.resume`, or looks at everything anew.
    """

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_driver", "_error", "_loop", "_result", "_state")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False  # by this name tasks know a future
        self._state = _PENDING
        self._result: Any = None
        self._error: BaseException | None = None
        self._driver: Driver | None = None
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] | None = None

    def __await__(self) -> Generator[DirectFuture, Any, Any]:
        if self._state == _PENDING:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it belongs to."""
        return self._loop

    def done(self) -> bool:
        """Whether there is a result or an error, or it was cancelled."""
        return self._state != _PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == _CANCELLED

    def result(self) -> Any:
        """The result, or its error raised.

        Raises:
            asyncio.CancelledError: It was cancelled.
            asyncio.InvalidStateError: It is not done.
        """
        if self._state == _DONE:
            return self._result
        if self._error is None:
            raise asyncio.InvalidStateError("there is no result yet")
        raise self._error

    def exception(self) -> BaseException | None:
        """The error, if it failed. Raises as :meth:`result` does."""
        if self._state == _FAILED:
            return self._error
        self.result()
        return None

    def set_result(self, result: Any) -> None:
        """Give the result.

        Raises:
            asyncio.InvalidStateError: It is done already.
        """
        self._settle(_DONE, result, None)

    def set_exception(self, error: BaseException) -> None:
        """Let it fail. Raises as :meth:`set_result` does."""
        self._settle(_FAILED, None, error)

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - as asyncio.Future
        """Give up waiting; whether it was not done."""
        if self._state != _PENDING:
            return False
        self._settle(_CANCELLED, None, asyncio.CancelledError())
        return True

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Have ``callback`` called with this future in the loop's next turn after it is done."""
        if self._state != _PENDING:
            self._loop.call_soon(callback, self, context=context)
        elif self._callbacks is None:
            self._callbacks = [(callback, context)]
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Forget a callback; how often it was there."""
        before = self._callbacks or []
        self._callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self._callbacks)

    def resume(self, driver: Driver) -> None:
        """Let ``driver`` go on as soon as it is done."""
        self._asyncio_future_blocking = False
        self._driver = driver

    def _settle(self, state: int, result: Any, error: BaseException | None) -> None:
        if self._state != _PENDING:
            raise asyncio.InvalidStateError("it is done already")
        self._state = state
        self._result = result
        self._error = error
        driver, self._driver = self._driver, None
        callbacks, self._callbacks = self._callbacks, None
        for callback, context in callbacks or ():
            self._loop.call_soon(callback, self, context=context)
        if driver is not None:
            driver.go_on()


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
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._on_crash: Callable[[BaseException], None] | None = on_crash
        self._awaited: asyncio.Future[Any] | DirectFuture | None = None
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
        assert coroutine is not None
        try:
            waited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration:
            self._end()
        except BaseException as crash:  # noqa: BLE001 - a driver stands where a task does: nothing is above it
            self._crash(crash)
        else:
            if waited is PARK:
                self.parked = True
            elif isinstance(waited, DirectFuture):
                self._awaited = waited
                waited.resume(self)
            else:
                self._await(waited)

    def _await(self, future: asyncio.Future[Any]) -> None:
        """The coroutine awaits a future: go on when it is done."""
        future._asyncio_future_blocking = False  # noqa: SLF001 - the protocol of PEP 492 awaitables
        self._awaited = future
        future.add_done_callback(self._future_done)

    def _future_done(self, _: asyncio.Future[Any]) -> None:
        self.go_on()

    def go_on(self) -> None:
        """What is awaited is done."""
        self._awaited = None
        self._step(None)

    def _crash(self, error: BaseException) -> None:
        on_crash = self._on_crash
        self._end()
        if on_crash is not None and not isinstance(error, asyncio.CancelledError):
            on_crash(error)

    def _end(self) -> None:
        """Let go of the coroutine and its owner, or each connection is left to the garbage collector."""
        self.done = True
        self._coroutine = None
        self._on_crash = None
