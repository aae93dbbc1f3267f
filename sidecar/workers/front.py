"""Workers in place of listeners: to the first process they are what faces the clients."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.metrics.registry import merge, retired
from sidecar.net.binding import Place
from sidecar.tls import server_context
from sidecar.workers.link import LinkLost
from sidecar.workers.messages import Apply, SetLogLevel, Start
from sidecar.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sidecar.load import Load
    from sidecar.log import Log
    from sidecar.metrics.registry import Snapshot
    from sidecar.settings.addresses import Address
    from sidecar.settings.model import Settings
    from sidecar.workers.commons import Commons
    from sidecar.workers.messages import Sockets

_LOOK_SECONDS: Final = 1.0
"""How old what is known of a worker's figures is at most when it dies."""

_LAST_SECONDS: Final = 5.0
"""Seconds beyond ``drain_timeout`` for a worker to flush what it has, before it is killed."""


class Workers:
    """Starts workers, replaces those that end, and speaks for them.

    Args:
        count: How many.
        commons: What they share with this process.
        log: Told of their beginnings and ends.
        lost: Called when a worker cannot be brought to serve; ``failure`` says why.
        clock: Tells how long processes run.

    Attributes:
        failure: Why the sidecar cannot go on, or empty.
    """

    def __init__(
        self,
        count: int,
        commons: Commons,
        log: Log,
        *,
        lost: Callable[[], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.failure = ""
        self._workers = tuple(Worker(number, clock) for number in range(1, count + 1))
        self._commons = commons
        self._log = log
        self._lost = lost
        self._settings: Settings | None = None
        self._places: dict[Address, Place] = {}
        self._gone: Snapshot = ()
        self._closing = False
        self._changing = asyncio.Lock()  # a worker starts before or after a reload, never in between
        self._changed = asyncio.Event()
        self._keepers: dict[Worker, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Workers {', '.join(map(repr, self._workers))}>"

    # --- as a front -------------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where they listen, as ``NAME=HOST:PORT``."""
        assert self._settings is not None
        return [
            f"{listener.name}={name}"
            for listener in self._settings.listeners
            for name in self._places[listener.bind].names
        ]

    @property
    def busy(self) -> int:
        """Workers that have not ended."""
        return sum(not keeper.done() for keeper in self._keepers.values())

    async def update(self, settings: Settings) -> None:
        """Have all workers, or none, serve by ``settings``; the first time, start them and wait for them.

        Raises:
            OSError: An address is taken or not ours, a certificate cannot be read, or a worker refuses.
        """
        for listener in settings.listeners:
            if listener.tls is not None:
                server_context(listener.tls)  # each worker will read it, and must not be the first to fail
        async with self._changing:
            before, wanted = self._places, await self._reserve(settings)
            self._places = before | wanted  # who goes back to what was may need what is not wanted any more
            try:
                await self._apply(settings)
                self._check_open()
            except BaseException:
                _close(wanted, keep=before)
                self._places = before
                raise
            _close(before, keep=wanted)
            self._places = wanted
            self._settings = settings
        if not self._keepers:
            await self._begin()

    def _check_open(self) -> None:
        if self._closing:
            raise OSError(errno.ESHUTDOWN, "the workers are ending")

    def close(self) -> None:
        """Accept nothing more, and finish what is under way."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        for worker, keeper in self._keepers.items():
            if worker.pid is None:
                keeper.cancel()
            else:
                worker.terminate()
        _close(self._places, keep={})
        self._places = {}

    async def kill(self) -> None:
        """End those that do not end by themselves."""
        keepers = self._keepers.values()
        if keepers:
            await asyncio.wait(keepers, timeout=_LAST_SECONDS)
        for worker in self._workers:
            worker.kill()
        await asyncio.gather(*keepers, return_exceptions=True)

    # --- for operators ----------------------------------------------------------------------------------

    def not_ready(self) -> str:
        """Which worker does not serve yet or any more, or an empty string."""
        missing = [str(worker.number) for worker in self._workers if not worker.ready]
        return f"worker {', '.join(missing)} is not ready" if missing else ""

    async def load(self, own: Load) -> Load:
        """``own``, and what the workers have in hand."""
        await self._look()
        for worker in self._workers:
            if worker.report is not None:
                own += worker.report.load
        return own

    async def snapshot(self, own: Snapshot) -> Snapshot:
        """``own`` figures merged with those of the workers, and with what is left of those that ended."""
        await self._look()
        reports = [worker.report.snapshot for worker in self._workers if worker.report is not None]
        return merge([own, *reports, self._gone])

    async def set_log_level(self, level: str) -> None:
        """Have all workers write log lines from ``level`` on."""
        await asyncio.gather(*(self._set_log_level(worker, level) for worker in self._workers))

    async def _set_log_level(self, worker: Worker, level: str) -> None:
        with suppress(LinkLost):  # its successor starts with the level of this process
            await worker.outcome(worker.post(SetLogLevel(level)))

    # --- what they serve by -----------------------------------------------------------------------------

    async def _reserve(self, settings: Settings) -> dict[Address, Place]:
        """The places of ``settings``: those that are held already, and new ones."""
        places: dict[Address, Place] = {}
        try:
            for address in dict.fromkeys(listener.bind for listener in settings.listeners):
                places[address] = self._places.get(address) or await Place.reserve(address)
        except OSError:
            _close(places, keep=self._places)
            raise
        return places

    async def _apply(self, settings: Settings) -> None:
        """Put ``settings`` in force in all workers; where one refuses, the others go back.

        Raises:
            OSError: One refuses, or is not given its sockets.
        """
        before = self._settings
        if before is None:
            return  # there are no workers yet
        changed: list[Worker] = []
        for worker in self._workers:
            problem = await self._change(worker, before, settings)
            if problem:
                for other in changed:
                    if await self._change(other, settings, before):
                        other.terminate()  # its successor starts by what is in force
                raise OSError(f"worker {worker.number}: {problem}")
            changed.append(worker)

    async def _change(self, worker: Worker, before: Settings, after: Settings) -> str:
        """Why ``worker`` refuses, or an empty string; one that ends has a successor that does not."""
        has = {listener.bind for listener in before.listeners}
        try:
            with self._handed(after, has) as (sockets, descriptors):
                answer = worker.post(Apply(_without_subscriptions(after), sockets), descriptors)
            return await worker.outcome(answer)
        except LinkLost:
            return ""
        except OSError as error:
            return str(error)

    @contextmanager
    def _handed(self, settings: Settings, has: Collection[Address]) -> Iterator[tuple[Sockets, list[int]]]:
        """Listening sockets for a worker, but for the addresses that it ``has``; ours are closed afterwards.

        Raises:
            OSError: The system has no more sockets, or the workers are ending and the addresses are given up.
        """
        self._check_open()
        wanted = dict.fromkeys(listener.bind for listener in settings.listeners if listener.bind not in has)
        with ExitStack() as stack:
            opened = {
                address: [stack.enter_context(sock) for sock in self._places[address].sockets()]
                for address in wanted
            }
            yield (
                tuple((address, len(sockets)) for address, sockets in opened.items()),
                [sock.fileno() for sockets in opened.values() for sock in sockets],
            )

    # --- their lives ------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Start them all, and wait until they serve.

        Raises:
            OSError: One of them cannot be brought to serve.
        """
        self._keepers = {worker: asyncio.create_task(self._keep(worker)) for worker in self._workers}
        while not all(worker.ready for worker in self._workers):
            if failure := self.failure:  # of the first; the others end because they are told to
                self.close()
                await self.kill()
                raise OSError(failure)
            self._changed.clear()
            await self._changed.wait()
        self._looking = asyncio.create_task(self._look_for_ever(), name="reports of workers")

    async def _keep(self, worker: Worker) -> None:
        """See to it that there is a process for ``worker``."""
        try:
            while True:
                problem = await self._run(worker)
                if self._closing:
                    return
                pause = worker.restarts.ended()
                if pause is None:
                    self._fail(f"worker {worker.number} does not start: {problem}")
                    return
                self._log.warning("worker ended", worker=worker.number, problem=problem, again_in=pause)
                await asyncio.sleep(pause)
        except Exception as error:  # noqa: BLE001 - whatever it is, a worker without a keeper must not go unseen
            self._log.crash("keeping a worker failed", error, worker=worker.number)
            self._fail(f"worker {worker.number} is not looked after any more: {error}")

    def _fail(self, why: str) -> None:
        """The sidecar cannot go on."""
        self.failure = why
        self._log.error("workers failed", message=why)
        self._changed.set()
        self._lost()

    async def _run(self, worker: Worker) -> str:
        """The life of one process, and how it ended."""
        worker.restarts.began()
        try:
            await worker.spawn(self._commons.handle.descriptors)
        except OSError as error:
            return str(error)
        problem = ""
        try:
            problem = await self._start(worker)
        except LinkLost:
            pass  # how it ended says more
        except OSError as error:
            problem = str(error)
            worker.kill()
        if self._closing:
            worker.terminate()
        code = await worker.ended()
        self._bury(worker)
        return problem or (f"exit code {code}" if code >= 0 else f"signal {-code}")

    async def _start(self, worker: Worker) -> str:
        """Have a new process serve: why it does not, or an empty string.

        Raises:
            LinkLost: It has ended.
        """
        async with self._changing:
            assert self._settings is not None
            with self._handed(self._settings, has=()) as (sockets, descriptors):
                order = Start(
                    number=worker.number,
                    settings=_without_subscriptions(self._settings),
                    sockets=sockets,
                    log_level=self._log.level,
                    commons=self._commons.handle,
                )
                answer = worker.post(order, descriptors)
        problem = await worker.outcome(answer)
        if not problem:
            worker.ready = True
            worker.restarts.ready()
            self._changed.set()
            self._log.info("worker started", worker=worker.number, pid=worker.pid)
        return problem

    def _bury(self, worker: Worker) -> None:
        """Give back what an ended process held, and keep what it has counted."""
        self._commons.board.forget(worker.number)
        if worker.report is not None:
            self._gone = merge([self._gone, retired(worker.report.snapshot)])
            worker.report = None

    async def _look(self) -> None:
        """Ask all of them how they are."""
        await asyncio.gather(*(worker.look() for worker in self._workers))

    async def _look_for_ever(self) -> None:
        """Know of each process what it had counted shortly before it died."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()


def _without_subscriptions(settings: Settings) -> Settings:
    """What workers serve by: events are delivered by the first process alone."""
    return replace(settings, events=replace(settings.events, subscriptions=()))


def _close(places: dict[Address, Place], *, keep: dict[Address, Place]) -> None:
    """Close ``places`` but for those to ``keep``."""
    for address, place in places.items():
        if keep.get(address) is not place:
            place.close()
