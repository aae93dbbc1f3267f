"""Where events and dead letters live, by the URL of the store."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.dlq.store import DeadLetterStore
    from sidecar.events.stream import Streams

MEMORY: Final = "memory://"


class Backend(NamedTuple):
    """The two stores.

    Attributes:
        streams: Of events.
        dead_letters: Of what could not be delivered.
        lasting: Whether what is in them outlives the process.
    """

    streams: Streams
    dead_letters: DeadLetterStore
    lasting: bool

    async def close(self) -> None:
        """Close their connections."""
        await self.streams.close()
        await self.dead_letters.close()


async def open_backend(store: str, *, patience: float, max_age: float) -> Backend:
    """Open the stores; nothing is connected before it is used.

    Args:
        store: The URL.
        patience: Seconds that the store may be silent.
        max_age: Seconds that dead letters are kept.
    """
    if store == MEMORY:
        from sidecar.dlq.memory import MemoryDeadLetterStore  # noqa: PLC0415 - only what is used is loaded
        from sidecar.events.memory import MemoryStreams  # noqa: PLC0415

        return Backend(MemoryStreams(), MemoryDeadLetterStore(max_age=max_age), lasting=False)
    # The driver takes a tenth of a second to load: the loop goes on meanwhile.
    await asyncio.to_thread(import_module, "redis.asyncio")
    from sidecar.dlq.connect import open_redis  # noqa: PLC0415
    from sidecar.dlq.redis import RedisDeadLetterStore  # noqa: PLC0415
    from sidecar.events.streams import RedisStreams  # noqa: PLC0415

    dead_letters = RedisDeadLetterStore(open_redis(store, timeout=patience), max_age=max_age)
    return Backend(RedisStreams(store, timeout=patience), dead_letters, lasting=True)
