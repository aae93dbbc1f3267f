"""The whole way of a request in one process without sockets: the test is the client and the upstream.

What the sidecar is made of is real: pipeline, proxy, pools, memory store. Only the transports are not, and
time moves by hand. So every order of events can be played, such as a peer that vanishes between two octets.
"""

from __future__ import annotations

import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from sidecar.gateway import Gateway
from sidecar.log import Log
from sidecar.net.server import ClientLimits, Listener
from sidecar.settings.model import Settings
from sidecar.wire.fields import REQUEST_FIELDS, FieldRules
from sidecar.wire.head import Limits
from tests.support.transport import FakeTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.manual_loop import ManualLoop

_ACCESS = [name for name in inspect.signature(Log.access).parameters if name != "self"]
_SETTINGS = TypeAdapter(Settings)


class FakeLog:
    """Keeps what it is told.

    Attributes:
        lines: The access lines, by field.
        crashes: Faults of our own.
    """

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.crashes: list[BaseException] = []

    def access(self, *values: Any, **named: Any) -> None:
        """An access line."""
        self.lines.append({**dict(zip(_ACCESS, values, strict=False)), **named})

    def crash(self, event: str, error: BaseException, /, **fields: Any) -> None:
        """A fault of our own."""
        self.crashes.append(error)

    def info(self, event: str, /, **fields: Any) -> None:
        """Something that happened."""

    debug = warning = error = info


def _texts(value: Any) -> Any:
    """Scalars as they stand in a file."""
    if isinstance(value, dict):
        return {name: _texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


class DataPath:
    """A sidecar between a client and an upstream that the test plays.

    Args:
        loop: Moved by the test.
        upstream: Settings of the upstream ``app``.
        route: Settings of the only route.
        sections: Further settings.

    Attributes:
        hosts: The upstream's side of each connection that was made to it.
        dials: What the next connections to the upstream come to: an error, or a future to wait for.
        log: What was logged.
    """

    def __init__(
        self,
        loop: ManualLoop,
        *,
        upstream: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        **sections: Any,
    ) -> None:
        self._loop = loop
        self.log = FakeLog()
        self.hosts: list[FakeTransport] = []
        self.dials: deque[Any] = deque()
        self.settings = _SETTINGS.validate_python(
            _texts(
                {
                    "upstreams": {"app": {"url": "http://127.0.0.1:3000", **(upstream or {})}},
                    "routes": [{"name": "all", "match": {"prefix": "/"}, "upstream": "app", **(route or {})}],
                    **sections,
                }
            )
        )
        self.gateway = Gateway(self.settings, self.log)
        self.app = self.gateway.pipeline.upstreams["app"]
        for host in self.app.hosts:
            host.pool.dial = self._dial
        limits = self.settings.limits
        self.listener = Listener(
            "ingress",
            scheme="http",
            handler=self.gateway.proxy,
            limits=ClientLimits(
                head=Limits(limits.header_bytes, limits.headers, limits.request_line),
                header_timeout=limits.header_timeout,
                body_idle=limits.body_idle,
                keep_alive=limits.keep_alive,
                body=limits.body,
            ),
            rules=FieldRules({**REQUEST_FIELDS, b"x-correlation-id": False}),
            deadlines=self.gateway.deadlines,
            capacity=limits.connections,
            trust_ids=True,
            correlation_header="X-Correlation-ID",
        )

        loop.at_end.append(self._end)

    def _end(self) -> None:
        for connection in list(self.listener.connections):
            connection.kill()
        self._loop.settle()

    async def _dial(self, protocol: Callable[[], Any]) -> None:
        if self.dials:
            what = self.dials.popleft()
            if isinstance(what, BaseException):
                raise what
            await what
        self.hosts.append(FakeTransport(self._loop, protocol(), peer=None))

    def client(self) -> FakeTransport:
        """A new connection from a client."""
        return FakeTransport(self._loop, self.listener.accept())

    @property
    def host(self) -> FakeTransport:
        """The last connection to the upstream."""
        return self.hosts[-1]

    @property
    def attempts(self) -> dict[str, int]:
        """What came of the attempts to send a request, by outcome."""
        return {outcome: cell.value for outcome, cell in self.app.attempts.items() if cell.value}

    def assert_nothing_is_held(self, requests: int = 1) -> None:
        """When ``requests`` are over: everything taken was given back, and each left one access line."""
        self._loop.settle()
        assert self.log.crashes == []
        assert self.gateway.proxy.active == 0
        permits, budget = self.app.permits, self.app.budget
        assert (permits.in_use, permits.waiting, permits.streams) == (0, 0, 0)
        assert (budget.active, budget.retries) == (0, 0)
        assert self.gateway.engine.running == 0
        assert all(plan.metrics.active == 0 for plan in self.gateway.pipeline.plans)
        assert len(self.log.lines) == requests
        for host in self.app.hosts:
            open_now = sum(transport.is_open for transport in self.hosts)
            assert host.pool.size == host.pool.idle == open_now, (host.pool, open_now)
