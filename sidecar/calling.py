"""How a policy is put around a function, be it a plain or an async one.

A policy says how a call begins and what its end means; :class:`Policy` makes of that every form of use:
calling a function, decorating it, ``with`` and ``async with``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from contextvars import ContextVar
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")


class NotBegun(BaseException):
    """Handed to :meth:`Policy.end`, never raised: what was to be a call has not begun, and will ask again."""


class Policy(ABC):
    """Lets calls pass or refuses them, and learns how they end."""

    __slots__ = ()

    @abstractmethod
    def begin(self) -> Any:
        """Let a call of a plain function pass, or raise. What this returns goes into :meth:`end`, once."""

    async def begin_async(self) -> Any:
        """Let a call of an async function pass, or raise; unlike :meth:`begin` it may wait."""
        return self.begin()

    @abstractmethod
    def end(self, call: Any, error: BaseException | None) -> None:
        """The call has returned, or raised ``error``; one that is no ``Exception`` is no verdict."""

    def execute(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn`` under this policy; for an async function the result is to be awaited.

        A plain function may return something to await, as a lambda around an async one does. Then the call
        begins anew when that is awaited: nothing has happened yet, and if nobody awaits, nothing will.
        """
        if is_async(fn):
            work = cast("Callable[[], Awaitable[Any]]", partial(fn, *args, **kwargs))
            return cast("R", self._execute_async(work))
        call = self.begin()
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            self.end(call, error)
            raise
        if inspect.isawaitable(result):
            self.end(call, NotBegun())
            return cast("R", self._await(result))
        self.end(call, None)
        return result

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``fn``: every call of it goes through :meth:`execute`."""
        return decorate(self.execute, fn)

    def __enter__(self) -> Self:
        return _opened(self, self.begin())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(_closed(self), error)

    async def __aenter__(self) -> Self:
        return _opened(self, await self.begin_async())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(_closed(self), error)

    async def _execute_async(self, work: Callable[[], Awaitable[R]]) -> R:
        call = await self.begin_async()
        try:
            result = await work()
        except BaseException as error:
            self.end(call, error)
            raise
        self.end(call, None)
        return result

    async def _await(self, awaitable: Awaitable[R]) -> R:
        try:
            return await self._execute_async(lambda: awaitable)
        finally:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # the policy may have refused, and then it was never begun


def is_async(fn: Callable[..., object]) -> bool:
    """Whether calling ``fn`` gives a coroutine, as far as can be seen from outside."""
    while isinstance(fn, partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def decorate(execute: Callable[..., Any], fn: Callable[P, R]) -> Callable[P, R]:
    """A function like ``fn``, whose calls go through ``execute(fn, ...)``.

    Raises:
        TypeError: ``fn`` is a generator function: its call ends before its work begins.
    """
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn!r} is a generator function; guard the function that runs through it")
    if is_async(fn):

        @wraps(fn)
        async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await execute(fn, *args, **kwargs)

        return cast("Callable[P, R]", guarded_async)

    @wraps(fn)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", execute(fn, *args, **kwargs))

    return guarded


# The blocks that are open in this context, the innermost last. One policy may guard many at once.
_open_blocks: ContextVar[tuple[tuple[Policy, Any], ...]] = ContextVar("sidecar_open_blocks", default=())
Guard = TypeVar("Guard", bound=Policy)


def _opened(policy: Guard, call: Any) -> Guard:
    _open_blocks.set((*_open_blocks.get(), (policy, call)))
    return policy


def _closed(policy: Policy) -> Any:
    """The call of the innermost open block of ``policy``, which need not be the innermost of all."""
    blocks = _open_blocks.get()
    for index in reversed(range(len(blocks))):
        if blocks[index][0] is policy:
            _open_blocks.set(blocks[:index] + blocks[index + 1 :])
            return blocks[index][1]
    raise RuntimeError(f"a block of {policy!r} is left in another context than it was entered in")
