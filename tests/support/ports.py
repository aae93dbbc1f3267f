"""Ports that no other test, in this process or another, is handed at the same time."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

# Below the ranges from which systems pick ports for outgoing connections (Linux 32768, others 49152): nothing
# takes one of these between the moment a test is told its number and the moment the server binds it.
_FIRST, _LAST = 12_000, 30_000
_LOCKS = Path(tempfile.gettempdir()) / f"sidecar-test-ports-{os.getuid()}"
_held: list[int] = []


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free, and stays reserved for this process until it ends."""
    _LOCKS.mkdir(exist_ok=True)
    start = _FIRST + (os.getpid() * 97 + len(_held)) % (_LAST - _FIRST)
    for offset in range(_LAST - _FIRST):
        port = _FIRST + (start - _FIRST + offset) % (_LAST - _FIRST)
        if _reserve(port):
            return port
    raise RuntimeError(f"no free port from {_FIRST} to {_LAST}")


def _reserve(port: int) -> bool:
    descriptor = os.open(_LOCKS / str(port), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _held.append(descriptor)  # the lock lives as long as the descriptor is open
    return _can_bind(port)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
