"""One worker as the first process sees it: a number, and the process that has it at the moment."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sidecar.workers.link import Link, LinkLost
from sidecar.workers.messages import Report, Start, Tell
from sidecar.workers.restarts import Restarts

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    from sidecar.clock import Clock
    from sidecar.workers.messages import Answer, Request

_PATIENCE: Final = 1.0
"""Seconds that a worker has to say how it is; after that the last that it said counts."""

_MOST_UNANSWERED: Final = 8
"""Requests to a worker that is stuck; it is not asked how it is any more until it has answered them."""

_LONGEST: Final = 30.0
"""Seconds that a worker has to do as it is told."""


class Worker:
    """A worker.

    Args:
        number: From 1.
        clock: Tells how long its processes run.

    Attributes:
        number: The same.
        ready: Whether it serves.
        report: What it said last; ``None`` if the process has said nothing yet.
        restarts: Decides when a process that ended is replaced.
    """

    def __init__(self, number: int, clock: Clock) -> None:
        self.number = number
        self.ready = False
        self.report: Report | None = None
        self.restarts = Restarts(clock)
        self._process: Process | None = None
        self._link: Link | None = None
        self._begun = False
        self._answering: asyncio.Task[None] | None = None
        self._unanswered: deque[asyncio.Future[Answer]] = deque()

    def __repr__(self) -> str:
        return f"<Worker {self.number} pid={self.pid} {'ready' if self.ready else 'not ready'}>"

    @property
    def pid(self) -> int | None:
        """The process's id, if there is a process."""
        return None if self._process is None else self._process.pid

    async def spawn(self, descriptors: Sequence[int]) -> None:
        """Start a process that inherits ``descriptors``, and waits to be told what to do.

        A fresh interpreter, not a fork: this process has a loop, threads and open stores by now, and a copy
        of them in an unknown state helps nobody.

        Raises:
            OSError: The system gives no process, or no sockets.
        """
        ours, theirs = socket.socketpair()
        our_side, their_side = socket.socketpair()
        with theirs, their_side:
            ends = (theirs.fileno(), their_side.fileno())
            try:
                self._process = await asyncio.create_subprocess_exec(
                    # -P: a file in the working directory must not stand in for a library.
                    *(sys.executable, "-P", "-m", "sidecar.workers.process", *map(str, ends)),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(*ends, *descriptors),
                )
            except BaseException:
                ours.close()
                our_side.close()
                raise
        self._begun = False
        self._link = await Link.over(ours, our_side)
        self._answering = asyncio.create_task(self._answer(self._link), name=f"worker {self.number}")

    def post(self, request: Request, descriptors: Sequence[int] = ()) -> asyncio.Future[Answer]:
        """Send a request. Its answer comes later; cancelled, nobody waits for it.

        Raises:
            LinkLost: The process has ended, there is none, or it has yet to be told to begin.
        """
        if self._link is None:
            raise LinkLost("there is no process")
        if self._answering is None or self._answering.done():
            # It has ended, and :meth:`ended` has yet to see it. What is asked now would stay unanswered, and
            # its successor's first answer be taken for the answer.
            raise LinkLost("the process has ended")
        if not self._begun and not isinstance(request, Start):
            # It can do nothing else before, and will begin by what is in force then.
            raise LinkLost("the process has yet to be told to begin")
        self._link.send(request, descriptors)
        self._begun = True
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._unanswered.append(answer)
        return answer

    async def outcome(self, answer: asyncio.Future[Answer]) -> str:
        """Why what was asked for could not be done, or an empty string. A process that is stuck is killed.

        Raises:
            LinkLost: The process has ended, or had to be.
        """
        try:
            async with asyncio.timeout(_LONGEST):
                done = await answer
        except TimeoutError:
            self.kill()
            raise LinkLost(f"no answer within {_LONGEST:g} s") from None
        if isinstance(done, Report):
            raise LinkLost("the process was told to end before it did so")
        return done.problem

    async def look(self) -> None:
        """Bring the report up to date; of a worker that says nothing the last one stays."""
        if not self.ready or len(self._unanswered) >= _MOST_UNANSWERED:
            return
        with suppress(LinkLost, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self.post(Tell())

    async def ended(self) -> int:
        """Wait for the process's end: its exit code, negative if a signal ended it."""
        assert self._process is not None
        code = await self._process.wait()
        self.ready = False
        if self._answering is not None:
            await self._answering  # it reads what was sent before the end
        if self._link is not None:
            self._link.close()
        self._process = self._link = self._answering = None
        return code

    def terminate(self) -> None:
        """Have the process finish what it is doing and end, if there is one."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once, if there is one."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _answer(self, link: Link) -> None:
        """Give out answers until the process has ended."""
        try:
            while True:
                answer = await link.receive()
                if isinstance(answer, Report):
                    self.report = answer
                if not self._unanswered:
                    continue  # the report that a process leaves when it ends
                waiting = self._unanswered.popleft()
                if not waiting.done():  # who asked may have lost patience
                    waiting.set_result(answer)
        except LinkLost as lost:
            unanswered, self._unanswered = self._unanswered, deque()
            for waiting in unanswered:
                if not waiting.done():
                    waiting.set_exception(LinkLost(str(lost)))
