"""The process of a worker: ``python -m sidecar.workers.process STREAM SIDE``, started by the first process.

It is told over its link (the two descriptors) what to serve, and ends with it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop

from sidecar.audit_trail import AuditTrailUnusable
from sidecar.gateway import Gateway
from sidecar.listeners import Listeners
from sidecar.log import Log, capture_stdlib
from sidecar.memory import settle_memory
from sidecar.net.binding import Binding
from sidecar.settings.restart import RestartNeeded
from sidecar.workers.commons import Commons
from sidecar.workers.link import Link, LinkLost
from sidecar.workers.messages import Apply, Done, Report, SetLogLevel, Start

if TYPE_CHECKING:
    from sidecar.settings.addresses import Address
    from sidecar.workers.messages import Answer, Request, Sockets


def main() -> None:
    """Be a worker until the first process says otherwise, or has ended."""
    # A terminal sends these to all processes at once, but they are for the first one to act on.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stream, side = (socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:])
    sys.exit(uvloop.run(_serve(stream, side)))


async def _serve(stream: socket.socket, side: socket.socket) -> int:
    link = await Link.over(stream, side)
    try:
        start: Start = await link.receive()
    except LinkLost:
        return 0
    log = Log(service=start.settings.service, level=start.log_level, style=start.settings.log.format)
    capture_stdlib(log)
    log.write_from(asyncio.get_running_loop())
    try:
        worker = WorkerProcess(link, start, log)
        try:
            await worker.start()
        except (OSError, AuditTrailUnusable) as error:
            link.send(Done(str(error)))
            await link.drain()
            return 1
        link.send(Done())
        settle_memory()
        await worker.until_stopped()
        await worker.stop()
    finally:
        log.close()
    return 0


class HandedSockets:
    """Listening sockets that came over the link, until a listener takes them."""

    def __init__(self) -> None:
        self._bindings: dict[Address, Binding] = {}

    def receive(self, sockets: Sockets, link: Link) -> None:
        """Take what came with the last message."""
        descriptors = iter(link.take_descriptors(sum(count for _, count in sockets)))
        for address, count in sockets:
            self._bindings[address] = Binding(
                tuple(socket.socket(fileno=next(descriptors)) for _ in range(count))
            )

    async def take(self, address: Address) -> Binding:
        """The sockets of ``address``."""
        return self._bindings.pop(address)

    def drop(self) -> None:
        """Close what no listener wanted, because it had it already."""
        for binding in self._bindings.values():
            binding.close()
        self._bindings = {}


class WorkerProcess:
    """A worker at work."""

    def __init__(self, link: Link, start: Start, log: Log) -> None:
        self._link = link
        self._start = start
        self._log = log
        self._stop = asyncio.Event()
        self._gateway = Gateway(start.settings, log, Commons(start.commons, start.number))
        self._sockets = HandedSockets()
        self._listeners = Listeners(self._gateway.proxy, self._gateway.deadlines, self._sockets.take)

    async def start(self) -> None:
        """Serve.

        Raises:
            OSError: A certificate cannot be read.
            AuditTrailUnusable: Routes are audited, and their changes could never be recorded.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        await self._gateway.start()
        self._sockets.receive(self._start.sockets, self._link)
        await self._listeners.update(self._start.settings)
        self._obeying = asyncio.create_task(self._obey(), name="link")

    async def until_stopped(self) -> None:
        """Return on SIGTERM, and when the first process has ended."""
        await self._stop.wait()

    async def stop(self) -> None:
        """Refuse new work, finish what is under way within ``drain_timeout``, and flush."""
        await self._gateway.drain(self._listeners)
        await self._listeners.kill()
        self._obeying.cancel()
        await asyncio.gather(self._obeying, return_exceptions=True)
        await self._gateway.close()
        self._link.send(self._report())  # so that nothing that was counted is lost
        with suppress(OSError):
            await self._link.drain()

    async def _obey(self) -> None:
        """Do what the first process asks for, one thing after another, until it has ended."""
        try:
            while True:
                request = await self._link.receive()
                self._link.send(await self._do(request))
        except LinkLost:
            pass
        except Exception as error:  # noqa: BLE001 - a worker that obeys no more must not stay, whatever it is
            self._log.crash("doing as told failed", error)
        self._stop.set()

    async def _do(self, request: Request) -> Answer:
        match request:
            case Apply():
                return await self._apply(request)
            case SetLogLevel():
                self._log.set_level(request.level)
                return Done()
            case _:
                return self._report()

    def _report(self) -> Report:
        return Report(self._gateway.load(), self._gateway.registry.snapshot())

    async def _apply(self, request: Apply) -> Done:
        self._sockets.receive(request.sockets, self._link)
        try:
            await self._gateway.apply(request.settings, self._listeners)
        except (OSError, AuditTrailUnusable, RestartNeeded) as error:
            # One that is ending cannot follow, and need not: its successor starts by what is in force then.
            return Done("" if self._stop.is_set() else str(error))
        finally:
            self._sockets.drop()
        return Done()


if __name__ == "__main__":
    main()
