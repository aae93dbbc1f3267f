"""The bus on Redis Streams.

============================================== ====== =====================================================
key                                            type   holds
============================================== ====== =====================================================
``events:<TYPE>``                              stream one entry an event: its attributes, and ``data``
``events-attempts:{events:<TYPE>}:<group>``    hash   entry id and subscription → failed attempts, as JSON
``events-leader:{events:<TYPE>}:<group>``      string the one consumer of a group that keeps order
============================================== ====== =====================================================

The group is the service's name. Entries are trimmed when every group has acknowledged them, and after 30
days.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.dlq.codec import attempt_from, attempt_members
from sidecar.dlq.connect import open_redis
from sidecar.dlq.script import Script
from sidecar.events.cloudevents import from_fields, to_fields
from sidecar.events.stream import RETENTION, Backlog, Entry, EventRefusedError, StreamError
from sidecar.ids import random_hex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.dlq.connect import RedisClient
    from sidecar.dlq.record import Attempt
    from sidecar.events.cloudevents import Event

LONGEST_WAIT: Final = 2.0
"""Seconds that :meth:`RedisConsumer.read` waits at most, whatever it is asked for."""

_LUA: Final = Path(__file__).with_name("lua")
_RELEASED: Final = "-"  # the holder of what was given back; no consumer's name
_GONE_AFTER: Final = 3_600_000  # milliseconds
_RETENTION: Final = int(RETENTION * 1000)
_LONG_IDLE: Final = 86_400_000  # milliseconds; more than any takeover time


class RedisStreams:
    """All streams of a bus.

    Args:
        url: Where Redis is; see :func:`~sidecar.dlq.connect.open_redis`.
        timeout: Seconds that Redis may be silent.
        clock: Tells what is too old to be kept.

    Raises:
        ValueError: The URL is malformed.
    """

    def __init__(self, url: str, *, timeout: float = 1.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._client = open_redis(url, timeout=timeout)
        # A blocked read is silent on purpose: it needs connections with more patience.
        self._patient = open_redis(url, timeout=timeout + LONGEST_WAIT)
        self._clock = clock
        names = ("lead", "release", "renew", "sweep")
        self._scripts = {name: Script(_LUA / f"{name}.lua") for name in names}

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[EventRefusedError | None]:
        """Append events to the streams of their types, in one round trip."""
        oldest = int(self._clock.wall() * 1000) - _RETENTION
        pipeline = self._client.pipeline(transaction=False)
        for event_type, event in events:
            fields = [part for field in to_fields(event).items() for part in field]
            pipeline.execute_command("XADD", f"events:{event_type}", "MINID", "~", oldest, "*", *fields)
        with _stream_errors():
            answers = await pipeline.execute(raise_on_error=False)
        return [_refusal(answer) for answer in answers]

    def consumer(self, event_type: str, group: str, names: Sequence[str]) -> RedisConsumer:
        """This process's part in a group whose subscriptions have these names."""
        return RedisConsumer(
            self._client, self._patient, self._scripts, _Part(event_type, group, tuple(names))
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._patient.aclose()


class _Part(NamedTuple):
    """Which stream a consumer reads, in which group, for the subscriptions with which names."""

    event_type: str
    group: str
    names: tuple[str, ...]


class RedisConsumer:
    """A consumer of one stream.

    Attributes:
        name: Tells it from all others, those that ran on this machine before included.
    """

    def __init__(
        self, client: RedisClient, patient: RedisClient, scripts: dict[str, Script], part: _Part
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{random_hex(4)}"
        self._client = client
        self._patient = patient
        self._scripts = scripts
        self._part = part
        self._group = part.group
        self._key = f"events:{part.event_type}"
        self._attempts = f"events-attempts:{{{self._key}}}:{part.group}"
        self._leader = f"events-leader:{{{self._key}}}:{part.group}"
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return f"<RedisConsumer {self.name} of {self._key} in {self._group}>"

    async def open(self) -> None:
        """Make stream and group where they are missing."""
        with _stream_errors():
            try:
                await self._client.xgroup_create(self._key, self._group, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def read(self, count: int, wait: float) -> list[Entry]:
        """Take new events."""
        block = int(min(wait, LONGEST_WAIT) * 1000) or None  # BLOCK 0 would wait for ever
        with _stream_errors():
            try:
                answer = await self._patient.xreadgroup(
                    self._group, self.name, {self._key: ">"}, count=count, block=block
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                await self.open()  # the stream was deleted under our feet
                return []
        return [self._entry(row) for _key, rows in answer for row in rows]

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """These are done."""
        noted = self._noted.intersection(entry_ids)
        with _stream_errors():
            await self._client.xack(self._key, self._group, *entry_ids)
            if noted:
                await self._client.hdel(
                    self._attempts, *(f for entry_id in noted for f in self._fields(entry_id))
                )
        self._noted -= noted

    async def note(self, entry_id: str, name: str, attempts: Sequence[Attempt]) -> None:
        """Write down attempts."""
        self._noted.add(entry_id)
        value = orjson.dumps([attempt_members(attempt) for attempt in attempts])
        with _stream_errors():
            await self._client.hset(self._attempts, f"{entry_id} {name}", value)
            await self._client.pexpire(self._attempts, _RETENTION)

    async def renew(self, entry_ids: Sequence[str]) -> list[str]:
        """Hold these for longer."""
        lost = await self._run("renew", *entry_ids)
        return [entry_id.decode() for entry_id in lost]

    async def take_over(self, idle: float, count: int, *, after: str = "") -> list[Entry]:
        """Take what its consumer has not renewed."""
        milliseconds = int(idle * 1000)
        with _stream_errors():
            stale = await self._client.xpending_range(
                self._key, self._group, f"({after}" if after else "-", "+", count, idle=milliseconds or None
            )
            if not stale:
                return []
            holders = {row["message_id"]: row["consumer"].decode() for row in stale}
            rows = await self._client.xclaim(self._key, self._group, self.name, milliseconds, list(holders))
            rows = [row for row in rows if row[0]]  # before Redis 7 a trimmed entry is a row without an id
            return [self._entry(row, await self._noted_for(row[0].decode()), holders[row[0]]) for row in rows]

    async def release(self) -> None:
        """Let others take at once what this consumer holds, and leave the group."""
        await self._run("release", _RELEASED, _LONG_IDLE)

    async def lead(self, seconds: float) -> bool:
        """Whether this consumer is the only one to deliver."""
        with _stream_errors():
            leads = await self._scripts["lead"].run(
                self._client, [self._leader], self.name, int(seconds * 1000)
            )
        return bool(leads)

    async def resign(self) -> None:
        """Let another consumer lead."""
        await self.lead(0)

    async def sweep(self) -> None:
        """Trim what every group has done."""
        with _stream_errors():
            await self._scripts["sweep"].run(self._client, [self._key], self._group, _GONE_AFTER)

    async def backlog(self) -> Backlog:
        """What the group has still to do."""
        with _stream_errors():
            groups = await self._client.xinfo_groups(self._key)
        for group in groups:
            if group["name"] == self._group.encode():
                return Backlog(group.get("lag"), group["pending"])
        return Backlog(None, 0)

    async def _run(self, name: str, *arguments: str | int) -> Any:
        with _stream_errors():
            return await self._scripts[name].run(
                self._client, [self._key], self._group, self.name, *arguments
            )

    def _entry(
        self,
        row: tuple[bytes, dict[bytes, bytes]],
        attempts: dict[str, tuple[Attempt, ...]] | None = None,
        holder: str = "",
    ) -> Entry:
        entry_id = row[0].decode()
        event = from_fields(row[1], event_type=self._part.event_type, entry_id=entry_id)
        return Entry(entry_id, event, attempts or {}, "" if holder == _RELEASED else holder)

    async def _noted_for(self, entry_id: str) -> dict[str, tuple[Attempt, ...]]:
        """The attempts noted for an entry, by subscription."""
        values = await self._client.hmget(self._attempts, self._fields(entry_id))
        noted = {
            name: tuple(map(attempt_from, orjson.loads(value)))
            for name, value in zip(self._part.names, values, strict=True)
            if value
        }
        if noted:
            self._noted.add(entry_id)
        return noted

    def _fields(self, entry_id: str) -> list[str]:
        return [f"{entry_id} {name}" for name in self._part.names]


def _refusal(answer: Any) -> EventRefusedError | None:
    """Whether a stream will never take an event.

    Raises:
        StreamError: It does not take it now.
    """
    if not isinstance(answer, Exception):
        return None
    if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
        return EventRefusedError(str(answer))
    raise StreamError(f"{type(answer).__name__}: {answer}") from answer


@contextlib.contextmanager
def _stream_errors() -> Iterator[None]:
    """Every way in which Redis can fail, as one error."""
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise StreamError(f"streams cannot be reached: {type(error).__name__}: {error}") from error
