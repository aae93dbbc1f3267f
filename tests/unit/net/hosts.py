"""A pool whose host is played by the test."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from sidecar.net.deadlines import Deadlines
from sidecar.net.pool import Pool
from sidecar.settings.addresses import UpstreamUrl
from sidecar.wire.fields import RESPONSE_FIELDS, FieldRules
from sidecar.wire.head import Limits
from tests.support.transport import FakeTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tests.support.manual_loop import ManualLoop


class Host:
    """Accepts connections at once, or as ``coming`` says.

    Attributes:
        coming: For each of the next connections an error, or a future that is awaited first.
        connections: Those that were accepted.
    """

    def __init__(self, loop: ManualLoop) -> None:
        self._loop = loop
        self.coming: deque[Any] = deque()
        self.connections: list[FakeTransport] = []
        self.dialled = 0

    async def dial(self, protocol: Callable[[], Any]) -> None:
        """Stand in for :meth:`Pool.dial`."""
        self.dialled += 1
        if self.coming:
            what = self.coming.popleft()
            if isinstance(what, BaseException):
                raise what
            await what
        self.connections.append(FakeTransport(self._loop, protocol(), peer=None))


def pool_of(
    loop: asyncio.AbstractEventLoop, host: Host | None = None, *, port: int = 3000, **settings: Any
) -> Pool:
    """A pool of connections to ``host``, or to what really listens on ``port``."""
    wanted = {"max_connections": 2, "idle": 4.0, "connect": 1.0, **settings}
    pool = Pool(
        UpstreamUrl.parse(f"http://127.0.0.1:{port}"),
        tls=None,
        rules=FieldRules(RESPONSE_FIELDS),
        limits=Limits(header_bytes=1000),
        deadlines=Deadlines(loop),
        **wanted,
    )
    if host is not None:
        pool.dial = host.dial
    return pool
