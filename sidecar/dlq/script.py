"""Lua scripts that stand in files beside the module that runs them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.dlq.connect import RedisClient

Argument = str | bytes | int


class Script:
    """One script. It is sent once; afterwards its hash is enough.

    Args:
        path: The file.
    """

    __slots__ = ("_sha", "_text")

    def __init__(self, path: Path) -> None:
        self._text = path.read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: RedisClient, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run it; all keys lie in one slot."""
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - a driver is loaded where it is used

        try:
            return await client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *arguments)
