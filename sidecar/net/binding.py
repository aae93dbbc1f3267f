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
        return _bind_file(address)
    sockets: list[socket.socket] = []
    try:
        for family, where in await _resolve(address):
            sockets.append(_bound(family, where, address))
            _listen(sockets[-1], address)
    except OSError:
        Binding(tuple(sockets)).close()
        raise
    return Binding(tuple(sockets))


class Place:
    """An address that several processes listen on, each on sockets of its own where there can be several.

    Of TCP there can: the kernel spreads connections over them by a hash of both ends' addresses, and leaves
    out a process in the moment in which it ends (SO_REUSEPORT, socket(7)). The place itself holds the
    address, without listening. A Unix socket is one, which all listen on.
    """

    def __init__(self, address: Address, binding: Binding) -> None:
        self.address = address
        self._binding = binding

    def __repr__(self) -> str:
        return f"<Place {self.address}>"

    @classmethod
    async def reserve(cls, address: Address) -> Place:
        """Take ``address``, for now without listening.

        Raises:
            OSError: It is taken or not ours, or the name has no address.
        """
        if address.unix:
            return cls(address, _bind_file(address))
        sockets: list[socket.socket] = []
        try:
            for family, where in await _resolve(address):
                sockets.append(_bound(family, where, address))
                # Not before it is bound: that must fail where a stranger listens, even one that would share.
                sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError:
            Binding(tuple(sockets)).close()
            raise
        return cls(address, Binding(tuple(sockets)))

    @property
    def names(self) -> list[str]:
        """Where it is, as an address is written."""
        return [name_of(sock) for sock in self._binding.sockets]

    def sockets(self) -> list[socket.socket]:
        """Listening sockets for one more process; the caller closes them when that process has them.

        Raises:
            OSError: The system has no more sockets.
        """
        if self.address.unix:
            return [sock.dup() for sock in self._binding.sockets]
        sockets: list[socket.socket] = []
        for held in self._binding.sockets:
            sockets.append(_bound(held.family, held.getsockname(), self.address, share=True))
            _listen(sockets[-1], self.address)
        return sockets

    def close(self) -> None:
        """Give the address up."""
        self._binding.close()


async def _resolve(address: Address) -> list[tuple[int, object]]:
    """The address families and addresses that ``address`` stands for."""
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def _bind_file(address: Address) -> Binding:
    _make_way(address.unix)
    sock = _bound(socket.AF_UNIX, address.unix, address)
    _listen(sock, address)
    return Binding((sock,), SocketFile(address.unix))


def _bound(family: int, where: object, address: Address, *, share: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(where)  # type: ignore[arg-type]
    except OSError as error:
        sock.close()
        raise _cannot_listen(address, error) from None
    return sock


def _listen(sock: socket.socket, address: Address) -> None:
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        raise _cannot_listen(address, error) from None


def _cannot_listen(address: Address, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {address}: {error.strerror}")


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
