"""A lasting link to one Redis server: connects, stays in touch, and soon says when it cannot be used."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final

import hiredis

from sidecar.idempotency.connection import Command, Connection, Reply
from sidecar.idempotency.store import StoreError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from sidecar.idempotency.address import Credentials, Endpoint

MOST_UNANSWERED: Final = 10_000
"""Commands that may wait for one server; more are refused."""

_CONNECT_TIMEOUT: Final = 1.0
_FIRST_DELAY: Final = 0.02
_LONGEST_DELAY: Final = 0.5
_SWEEP: Final = 0.05  # seconds between two looks at deadlines, while any command waits
_PATIENCE: Final = 1.0  # seconds after which a connection whose oldest command has timed out is given up

# What a server answers when it cannot be used, as opposed to not having understood. Before Redis 7 a script's
# error stands somewhere inside the message of another.
_REASONS: Final = {
    "OOM": "full",
    "READONLY": "read_only",
    "MISCONF": "read_only",
    "NOREPLICAS": "read_only",
    "LOADING": "loading",
    "MASTERDOWN": "loading",
    "CLUSTERDOWN": "cluster_down",
    "TRYAGAIN": "cluster_down",
    "BUSY": "busy",
    "NOAUTH": "denied",
    "WRONGPASS": "denied",
    "NOPERM": "denied",
}


def refusal(reply: hiredis.HiredisError) -> StoreError:
    """An error reply as a :class:`StoreError`."""
    message = str(reply)
    words = message.replace("-", " ").split()
    reason = next((_REASONS[word] for word in words if word in _REASONS), "error")
    return StoreError(f"Redis says {message[:200]!r}", reason=reason, maybe_done=False)


class Link:
    """Keeps one connection to a server.

    While it is being established commands wait; when that fails they are refused at once until a later
    attempt succeeds. Commands that were on their way when a connection broke are sent again: all of ours
    may be carried out twice.

    Args:
        resolve: Finds out where the server is, before each attempt.
        credentials: For AUTH.
        database: Number of the database.
        tls: Context for TLS, ``None`` for plain TCP.
        master_only: Refuse a server that says it is a replica.
        channel: Subscribe to this channel.
        on_push: Called with each message on it.
        on_trouble: Called when the server cannot be reached, or is silent for too long.

    Attributes:
        ahead: At most so many seconds is the server's clock ahead of the loop's.
    """

    def __init__(
        self,
        resolve: Callable[[], Awaitable[Endpoint]],
        *,
        credentials: Credentials | None = None,
        database: int = 0,
        tls: ssl.SSLContext | None = None,
        master_only: bool = False,
        channel: bytes | None = None,
        on_push: Callable[[list[Reply]], None] | None = None,
        on_trouble: Callable[[], None] | None = None,
    ) -> None:
        self.ahead = 0.0
        self._resolve = resolve
        self._credentials = credentials
        self._database = database
        self._tls = tls
        self._master_only = master_only
        self._channel = channel
        self._on_push = on_push
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._waiting: deque[Command] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self._refusal: str | None = None
        self._sweeping = False
        self._closed = False

    def now(self) -> float:
        """Seconds of the loop's clock, by which deadlines go."""
        return self._loop.time()

    def send(self, packed: bytes, patience: float) -> Command:
        """Send a command that is packed already.

        Returns:
            The reply to be, an error reply too (as a value of type :class:`hiredis.HiredisError`). It fails
            with :class:`StoreError` when the server cannot be reached, or is silent for ``patience``
            seconds.

        Raises:
            StoreError: The server is known to be out of reach, or too many commands wait for it already.
        """
        loop, connection = self._loop, self._connection
        command = Command(packed, loop.time() + patience, loop)
        if connection is not None:
            if len(connection.unanswered) >= MOST_UNANSWERED:
                raise StoreError("too many commands wait for Redis", reason="overloaded", maybe_done=False)
            connection.give(command)
        else:
            self._await_connection(command)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(_SWEEP, self._sweep)
        return command

    async def connected(self, seconds: float) -> bool:
        """Wait for a connection, ``seconds`` at most."""
        if self._connection is None:
            self._connect()
            assert self._connecting is not None
            await asyncio.wait([self._connecting], timeout=seconds)
        return self._connection is not None

    def reconnect(self) -> None:
        """The server is not the right one any more: look where it is now."""
        if self._connection is not None:
            self._connection.abort()

    async def aclose(self) -> None:
        """Close; commands that wait are refused."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            self._connection.abort()
        self._refuse_waiting("the store is closed")

    def _await_connection(self, command: Command) -> None:
        if self._closed or self._refusal is not None:
            raise StoreError(self._refusal or "the store is closed", reason="refused", maybe_done=False)
        if len(self._waiting) >= MOST_UNANSWERED:
            raise StoreError("too many commands wait for Redis", reason="overloaded", maybe_done=False)
        self._waiting.append(command)
        self._connect()

    def _connect(self) -> None:
        if self._connecting is None and not self._closed:
            self._connecting = self._loop.create_task(self._keep_connecting(), name="idempotency redis")

    async def _keep_connecting(self) -> None:
        """Try until there is a connection. Who waits is refused after the second failure in a row."""
        delay = _FIRST_DELAY
        for attempt in count(1):
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT):
                    connection = await self._open()
            except (OSError, StoreError, hiredis.HiredisError) as error:  # TimeoutError is an OSError
                if attempt > 1:
                    self._refusal = f"cannot connect to Redis: {error or 'no answer in time'}"
                    self._refuse_waiting(self._refusal)
                    self._report_trouble()
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts
                delay = min(2 * delay, _LONGEST_DELAY)
            else:
                break
        self._refusal = None
        self._connecting = None
        self._connection = connection
        while self._waiting:
            command = self._waiting.popleft()
            if not command.done():  # what has timed out must not be carried out any more
                connection.give(command)

    async def _open(self) -> Connection:
        endpoint = await self._resolve()
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._loop, self._lost, self._on_push),
            endpoint.host,
            endpoint.port,
            ssl=self._tls,
        )
        try:
            await self._greet(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        if self._credentials is not None:
            username, password = self._credentials
            await connection.ask("AUTH", *([username] if username else []), password)
        if self._database:
            await connection.ask("SELECT", self._database)
        if self._master_only and (role := (await connection.ask("ROLE"))[0]) != b"master":
            raise StoreError(
                f"expected a master, found a {role.decode()}", reason="read_only", maybe_done=False
            )
        asked_at = self._loop.time()
        seconds, microseconds = await connection.ask("TIME")
        self.set_time(int(seconds) + int(microseconds) / 1e6, asked_at)
        if self._channel is not None:
            await connection.ask("SUBSCRIBE", self._channel)

    def set_time(self, server_time: float, asked_at: float) -> None:
        """The server's clock showed ``server_time`` at some moment after ``asked_at`` by the loop's clock."""
        self.ahead = server_time - asked_at

    def _lost(self, connection: Connection) -> None:
        unanswered = [command for command in connection.unanswered if not command.done()]
        if connection is not self._connection:  # it was never ours: its greeting failed
            for command in unanswered:
                command.set_exception(ConnectionResetError("Redis closed the connection"))
            return
        for command in unanswered:
            command.sent = True
        self._connection = None
        self._waiting.extendleft(reversed(unanswered))
        if not self._closed:
            self._connect()

    def _refuse_waiting(self, message: str) -> None:
        while self._waiting:
            command = self._waiting.popleft()
            if not command.done():
                command.set_exception(StoreError(message, reason="refused", maybe_done=command.sent))

    def _sweep(self) -> None:
        """Tell those who have waited long enough, and give up a connection that stays silent."""
        self._sweeping = False
        now, connection = self._loop.time(), self._connection
        unanswered = self._waiting if connection is None else connection.unanswered
        for command in tuple(unanswered):  # who is told goes on at once, and may give further commands
            if command.deadline <= now and not command.done():
                maybe_done = command.sent or connection is not None
                command.set_exception(StoreError("Redis is silent", reason="timeout", maybe_done=maybe_done))
        if connection is not None and unanswered and unanswered[0].deadline + _PATIENCE <= now:
            connection.abort()
            self._report_trouble()
        if unanswered and not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP, self._sweep)

    def _report_trouble(self) -> None:
        if self._on_trouble is not None:
            self._on_trouble()
