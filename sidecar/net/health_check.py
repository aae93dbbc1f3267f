"""One active health check: a GET on a connection of its own, and the head of what comes back."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

from sidecar.errors import SidecarError, UpstreamUnreachable
from sidecar.version import VERSION
from sidecar.wire.reader import ResponseReader

if TYPE_CHECKING:
    from sidecar.net.pool import Pool

_GOOD: Final = range(200, 400)
_INTERIM: Final = range(100, 200)
_SWITCHING: Final = 101
_AGENT: Final = b"sidecar/%b (health check)" % VERSION.encode()


async def check(pool: Pool, path: str, authority: bytes, timeout: float) -> str:  # noqa: ASYNC109 - a setting
    """What is wrong with the host, or an empty string where it answers with 2xx or 3xx.

    The connection is none of the pool's: a pool that is used up says nothing of the host's health.

    Args:
        pool: Knows where the host is.
        path: What to ask for.
        authority: Value of ``Host``.
        timeout: Seconds that all of it may take.
    """
    probe = _Probe(pool, b"GET %b HTTP/1.1\r\nHost: %b\r\n" % (path.encode(), authority))
    try:
        async with asyncio.timeout(timeout):
            await pool.dial(lambda: probe)
            status = await probe.status
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, ssl.SSLError, SidecarError) as error:
        return str(error)
    finally:
        probe.close()
    return "" if status in _GOOD else f"answered {status}"


class _Probe(asyncio.Protocol):
    """Sends the request and waits for the status of its response; the body is not read."""

    def __init__(self, pool: Pool, head: bytes) -> None:
        self._reader = ResponseReader(pool.rules, pool.limits)
        self._head = head
        self._transport: asyncio.Transport | None = None
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast("asyncio.Transport", transport)
        stream.write(self._head + b"User-Agent: %b\r\nAccept: */*\r\nConnection: close\r\n\r\n" % _AGENT)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            return
        self._reader.push(data)
        try:
            while (head := self._reader.next_head(b"GET")) is not None:
                if head.status not in _INTERIM or head.status == _SWITCHING:
                    self.status.set_result(head.status)
                    return
        except SidecarError as error:
            self.status.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(
                UpstreamUnreachable(f"the connection was closed without an answer: {exc or 'end of stream'}")
            )

    def close(self) -> None:
        """The check is over, whatever came of it."""
        if self._transport is not None:
            self._transport.abort()
        self.status.cancel()
        if not self.status.cancelled():
            self.status.exception()  # seen, or it would be reported as lost
