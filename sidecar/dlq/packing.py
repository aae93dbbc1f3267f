"""Connections whose commands hiredis packs: redis-py packs those of its asyncio client in Python.

With two dozen arguments, as an event in a stream has, that takes longer than all else about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiredis import pack_command
from redis.asyncio.connection import Connection, SSLConnection

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Packing:
    """What replaces the packing in Python."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command, ready to be sent."""
        return [pack_command(_words(args))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Many commands, ready to be sent in one write."""
        return [b"".join([pack_command(_words(tuple(args))) for args in commands])]


class PackedConnection(_Packing, Connection):
    """Without TLS."""


class PackedSSLConnection(_Packing, SSLConnection):
    """With TLS."""


def _words(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """``XINFO GROUPS`` is one argument in redis-py and two on the wire."""
    name = args[0]
    return (*name.split(), *args[1:]) if " " in name else args
