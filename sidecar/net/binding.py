"""The sockets of an address that a sidecar listens on."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from sidecar.settings.addresses import Address

BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""

_PROBE_SECONDS: Final = 1.0


class SocketFile:
    """The file of a Unix socket that this process listens on."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._inode = self._path.stat().st_ino

    def remove(self) -> None:
        """Leave no file behind, unless another process has put its own socket there meanwhile."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


class Binding(NamedTuple):
    """The listening sockets of an address: one, or where a name has several addresses, one for each.

    Attributes:
        sockets: Bound and listening.
        file: That of a Unix socket, if this process has to remove it.
    """

    sockets: tuple[socket.socket, ...]
    file: SocketFile | None = None

    def close(self) -> None:
        """Listen no more."""
        for sock in self.sockets:
            sock.close()
        if self.file is not None:
            self.file.remove()


async def bind(address: Address) -> Binding:
    """Listen on ``address``.

    Raises:
        OSError: It is taken or not ours, or the name has no address.
    """
    if address.unix:
        _make_way(address.unix)
        sock = _listening(socket.AF_UNIX, address.unix, address)
        return Binding((sock,), SocketFile(address.unix))
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
            sockets.append(_listening(family, where, address))
    except OSError:
        Binding(tuple(sockets)).close()
        raise
    return Binding(tuple(sockets))


def _listening(family: int, where: object, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from None
    return sock


def _make_way(path: str) -> None:
    """Remove the socket that a killed process left behind.

    Raises:
        OSError: Another process listens there. Binding would not tell: it takes the file for stale.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - one call, no second look
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)


def name_of(sock: socket.socket) -> str:
    """Where ``sock`` listens, as an address is written."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{name}"
