"""The load: keep-alive connections that each send a request, check its answer, and send the next."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import uvloop

from bench.harness import CORES, on_cores
from bench.processes import cpu_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_WARM_UP_SECONDS = 0.3
_ANSWER_SECONDS = 15.0
_END_OF_HEAD = b"\r\n\r\n"


class BrokenAnswer(Exception):  # noqa: N818 - says what happened
    """A proxy answered wrongly; its speed is worth nothing."""


def http_request(method: str, target: str, *fields: str, body: bytes = b"") -> bytes:
    """A request as a common client sends it."""
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: bench.local",
        "User-Agent: bench/1",
        "Accept: */*",
        *fields,
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a connection sends, and what every answer must look like.

    Attributes:
        request: The bytes of a request, or what makes them where each differs.
        status: Status code that every answer must have.
        body_bytes: Length that every answer's body must have.
        with_field: A field name (lower case) that every head must carry; empty for none.
        without_field: A field name (lower case) that no head may carry; empty for none.
    """

    request: bytes | Callable[[], bytes]
    status: int
    body_bytes: int
    with_field: bytes = b""
    without_field: bytes = b""

    def complaint(self, head: bytes) -> str | None:
        """What is wrong with an answer's head, if anything."""
        if head[9:12] != b"%d" % self.status:
            return f"expected status {self.status}"
        lowered = head.lower()
        if self.with_field and b"\r\n" + self.with_field + b":" not in lowered:
            return f"expected a field {self.with_field.decode()}"
        if self.without_field and b"\r\n" + self.without_field + b":" in lowered:
            return f"expected no field {self.without_field.decode()}"
        return None


@dataclass(frozen=True, slots=True)
class Sample:
    """What one turn of load showed.

    Attributes:
        requests: Answers that came within the measured time.
        seconds: The measured time.
        cpu_us: CPU microseconds of the proxy per answer.
        latencies: Seconds from each request (or from when it was due) to its answer.
    """

    requests: int
    seconds: float
    cpu_us: float
    latencies: list[float] = field(repr=False)


class _Connection(asyncio.BufferedProtocol):
    """One client connection. All of them read into the same buffer: each read is dealt with at once."""

    __slots__ = ("_buffer", "_interval", "_missing", "_partial", "_run", "_sent_at", "_transport")

    def __init__(self, run: _Run, interval: float) -> None:
        self._run = run
        self._interval = interval
        self._buffer = run.buffer
        self._missing = -1  # body bytes still to come; -1: the head is
        self._partial = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sent_at = time.perf_counter()
        self._send()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the protocol's signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._missing < 0:
            self._head_arrived(self._partial + self._buffer[:nbytes])
        else:
            self._body_arrived(nbytes)

    def _head_arrived(self, data: bytes) -> None:
        end = data.find(_END_OF_HEAD)
        if end < 0:
            self._partial = data
            return
        self._partial = b""
        recipe = self._run.recipe
        complaint = recipe.complaint(data[: end + 2])
        if complaint:
            self._run.fail(f"{complaint}, got {data[:400]!r}")
            return
        self._missing = recipe.body_bytes
        self._body_arrived(len(data) - end - 4)

    def _body_arrived(self, count: int) -> None:
        self._missing -= count
        if self._missing > 0:
            return
        if self._missing < 0:
            self._run.fail(f"expected a body of {self._run.recipe.body_bytes} bytes, got more")
            return
        self._missing = -1
        self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        run = self._run
        run.latencies.append(now - self._sent_at)
        if run.ending:
            self._transport.close()
            return
        if not self._interval:
            self._sent_at = now
            self._send()
            return
        # Paced: a late answer does not move the times at which the following requests are due.
        self._sent_at += self._interval
        if self._sent_at <= now:
            self._send()
        else:
            asyncio.get_running_loop().call_later(self._sent_at - now, self._send)

    def _send(self) -> None:
        if self._transport.is_closing():
            return  # it was due when the run ended
        request = self._run.recipe.request
        self._transport.write(request if isinstance(request, bytes) else request())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._run.ending:
            self._run.fail(f"the proxy closed a keep-alive connection ({exc})")


class _Run:
    """State that the connections of one turn share."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.buffer = bytearray(1 << 18)
        self.latencies: list[float] = []
        self.ending = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        self.ending = True
        if not self._failed.done():
            self._failed.set_exception(BrokenAnswer(why))

    async def wait(self, seconds: float) -> None:
        """Let ``seconds`` pass.

        Raises:
            BrokenAnswer: A connection got a wrong answer before or meanwhile.
        """
        await asyncio.wait([self._failed], timeout=seconds)
        if self._failed.done():
            self._failed.result()


def run_loop(main: Coroutine[object, object, object]) -> object:
    """Run a coroutine on a uvloop of its own, on the cores that are not the proxy's."""
    with on_cores(CORES.rest), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _drive(
    port: int,
    recipe: Recipe,
    cpu_now: Callable[[], int],
    *,
    connections: int,
    seconds: float,
    interval: float,
) -> Sample:
    loop = asyncio.get_running_loop()
    run = _Run(recipe)
    opened: list[asyncio.BaseTransport] = []
    try:
        for number in range(connections):
            connect = loop.create_connection(partial(_Connection, run, interval), "127.0.0.1", port)
            opened.append((await connect)[0])
            await run.wait(interval * number / connections if interval else 0)
        await run.wait(_WARM_UP_SECONDS)
        skipped, cpu, began = len(run.latencies), cpu_now(), time.perf_counter()
        await run.wait(seconds)
        cpu = cpu_now() - cpu
        elapsed = time.perf_counter() - began
        latencies = run.latencies[skipped:]
    finally:
        run.ending = True
        for transport in opened:
            transport.close()
    if not latencies:
        raise BrokenAnswer(f"no answer within {seconds:g} s")
    return Sample(len(latencies), elapsed, cpu / 1000 / len(latencies), latencies)


def measure(
    port: int,
    recipe: Recipe,
    pid: int,
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    cpu_of: Callable[[int], int] = cpu_ns,
) -> Sample:
    """Load the proxy on ``port`` for a while and count the CPU time of the process tree ``pid``.

    Args:
        port: Where the proxy listens on loopback.
        recipe: Requests and the answers that count as right.
        pid: The proxy's first process.
        connections: How many send at the same time.
        seconds: The measured time, after a third of a second to warm up.
        rate: Requests a second over all connections, sent when they are due; 0 for as fast as answers come.
        cpu_of: Gives the CPU time so far, in nanoseconds.

    Raises:
        BrokenAnswer: One answer was wrong, a connection was closed, or nothing came back.
    """
    interval = connections / rate if rate else 0.0
    sample = run_loop(
        _drive(
            port, recipe, partial(cpu_of, pid), connections=connections, seconds=seconds, interval=interval
        )
    )
    assert isinstance(sample, Sample)
    return sample


def probe(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    """Send one request on a connection of its own; status, head and body of the answer.

    Raises:
        BrokenAnswer: The answer has no Content-Length, or does not come whole.
    """
    answer = run_loop(asyncio.wait_for(_probe(port, request), _ANSWER_SECONDS))
    assert isinstance(answer, tuple)
    return answer


async def _probe(port: int, request: bytes) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(_END_OF_HEAD)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return int(head[9:12]), head, await reader.readexactly(int(line[15:]))
    except asyncio.IncompleteReadError as failure:
        raise BrokenAnswer(f"the answer broke off after {failure.partial[:400]!r}") from failure
    finally:
        writer.close()
    raise BrokenAnswer(f"expected an answer with Content-Length, got {head!r}")
