"""Starts the demo, takes the tour, stays up until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from rich.console import Console
from rich.text import Text

from sidecar.demo.processes import Addresses, Processes
from sidecar.demo.tour import Tour, TourFailed

if TYPE_CHECKING:
    from collections.abc import Coroutine

_READY_SECONDS = 20.0
_POLL_SECONDS = 0.05
_MOST_STARTS = 3
_SERVICE_LISTENS = "Running on"
_SIDECAR_LISTENS = '"event":"started"'
_ANSWER_TIMEOUT = aiohttp.ClientTimeout(total=10)
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoFailed(Exception):  # noqa: N818 - says what happened
    """A process of the demo ended, or did not get ready."""


def run_demo(*, once: bool = False) -> int:
    """Start an example service with a real sidecar before it, and show what the sidecar does.

    Args:
        once: Exit after the tour instead of staying up until Ctrl-C.

    Returns:
        Exit code of the process: 0, or 1 where something did not go as the tour explains.
    """
    console = Console()
    try:
        asyncio.run(_until_signal(_demo(console, once=once)))
    except (DemoFailed, TourFailed, aiohttp.ClientError, TimeoutError) as failure:
        console.print(Text(f"the demo failed: {failure or type(failure).__name__}", style="bold red"))
        return 1
    return 0


async def _until_signal(demo: Coroutine[object, object, None]) -> None:
    """Run ``demo`` until it is over, or a signal cancels it; it ends its processes in both cases."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(demo)

    def end_once() -> None:
        if not task.cancelling():  # a second Ctrl-C must not cut short what the first one began
            task.cancel()

    for number in _ENDING_SIGNALS:
        loop.add_signal_handler(number, end_once)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _demo(console: Console, *, once: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="sidecar-demo-") as folder:
        async with (
            Processes(Path(folder)) as processes,
            aiohttp.ClientSession(timeout=_ANSWER_TIMEOUT) as session,
        ):
            addresses = await _start(processes, session)
            _introduce(console, addresses)
            tour = Tour(console, session, addresses)
            await tour.walk()
            if not once:
                _invite(console, tour, addresses, processes)
                ended = await processes.first_to_end()
                raise DemoFailed(f"{ended} ended by itself\n{processes.log_tail(ended)}")


async def _start(processes: Processes, session: aiohttp.ClientSession) -> Addresses:
    """Start the service and the sidecar; where they listen.

    A port that was free may be taken before it is used. Then all begins anew with other ports.

    Raises:
        DemoFailed: One of the processes ended, or 20 seconds have passed.
    """
    starts = 0
    while True:
        starts += 1
        addresses = Addresses.choose()
        await _start_on(processes, addresses)
        ended = await _wait_ready(processes, session, addresses)
        if not ended:
            return addresses
        if starts == _MOST_STARTS or not processes.found_port_taken(ended):
            raise DemoFailed(f"{ended} ended instead of getting ready\n{processes.log_tail(ended)}")
        await processes.end()


async def _start_on(processes: Processes, addresses: Addresses) -> None:
    service_port = addresses.service.rpartition(":")[2]
    await processes.start("service", "sidecar.demo.service", service_port)
    await processes.start(
        "sidecar",
        *("sidecar", "run", "--upstream", f"http://{addresses.service}"),
        *("--listen", addresses.listen, "--admin", addresses.admin),
    )


async def _wait_ready(processes: Processes, session: aiohttp.ClientSession, addresses: Addresses) -> str:
    """Return once the service listens and ``/readyz`` answers.

    Returns:
        The process that ended instead, or an empty string.

    Raises:
        DemoFailed: 20 seconds have passed.
    """
    ended = asyncio.ensure_future(processes.first_to_end())
    answering = asyncio.ensure_future(_all_ready(processes, session, addresses))
    try:
        waits = {ended, answering}
        await asyncio.wait(waits, timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return ended.result()
        if not answering.done():
            raise DemoFailed(f"not ready after {_READY_SECONDS:g} s\n{processes.log_tail('sidecar')}")
        return ""
    finally:
        ended.cancel()
        answering.cancel()


async def _all_ready(processes: Processes, session: aiohttp.ClientSession, addresses: Addresses) -> None:
    # Whoever has taken the port may answer just as well: it is their own words that count.
    for name, words in (("service", _SERVICE_LISTENS), ("sidecar", _SIDECAR_LISTENS)):
        while not processes.has_said(name, words):  # noqa: ASYNC110 - a file tells nobody that it grows
            await asyncio.sleep(_POLL_SECONDS)
    await _answers(session, f"http://{addresses.admin}/readyz")


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(url) as answer:
                if answer.ok:
                    return
        await asyncio.sleep(_POLL_SECONDS)


def _introduce(console: Console, addresses: Addresses) -> None:
    console.print()
    console.print(Text("client  →  sidecar  →  service", style="bold"))
    console.print(Text(f"sidecar  http://{addresses.listen}   takes the requests"))
    console.print(Text(f"service  http://{addresses.service}   an example that executes payments"))
    console.print(Text(f"admin    http://{addresses.admin}   health, metrics, operations"))


def _invite(console: Console, tour: Tour, addresses: Addresses, processes: Processes) -> None:
    console.print()
    console.rule("[bold]now you[/]", align="left")
    console.print(Text("Everything stays up until Ctrl-C. Some lines to try, the first of them twice:"))
    for line in tour.curl_lines():
        console.print(Text(line, style="bold cyan"), soft_wrap=True)
    console.print(
        Text(f"The sidecar's log, a line a request:  tail -f {processes.log('sidecar')}"), soft_wrap=True
    )
    console.print(Text(f"The admin page:                       http://{addresses.admin}/"), soft_wrap=True)
