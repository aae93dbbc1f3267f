"""A file descriptor that never makes its writer wait, whatever is behind it and whoever else writes there."""

from __future__ import annotations

import os
import select
import socket
import stat


def end_of_portion(data: bytes, start: int) -> int:
    """Where the lines end that can be written in one piece, from ``start`` on.

    A pipe takes up to PIPE_BUF octets whole or not at all (pipe(7)), so that the lines of several processes
    never mix. A line that is longer can only be hoped to.
    """
    end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1
    return end or data.find(b"\n", start) + 1 or len(data)


class Outlet:
    """Writes to ``fd`` as much as is taken at once.

    The descriptor is often shared with other processes (a shell, a sibling container's collector), so it is
    never made non-blocking itself: a pipe or a terminal is opened once more for that. A regular file always
    takes what it is given.
    """

    __slots__ = ("_fd", "_own", "_socket")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._own = False
        self._socket: socket.socket | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            # Opened by way of /proc: the same pipe, with flags of its own.
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            self._own = True
        elif stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))

    def write(self, data: bytes) -> int:
        """How many octets of ``data`` were taken; 0 if none could be now.

        Raises:
            OSError: Nobody reads any more, or the disk is full.
        """
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            return self._write_portions(data) if self._own else os.write(self._fd, data)
        except BlockingIOError:
            return 0

    def _write_portions(self, data: bytes) -> int:
        taken = 0
        try:
            while taken < len(data):
                taken += os.write(self._fd, data[taken : end_of_portion(data, taken)])
        except BlockingIOError:
            pass
        return taken

    def close(self) -> None:
        """Give up what was opened here; the descriptor itself stays open."""
        if self._own:
            os.close(self._fd)
            self._own = False
        if self._socket is not None:
            self._socket.close()
