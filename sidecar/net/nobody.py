"""What stands where a client's connection is, in exchanges that the sidecar itself begins.

A module of its own, because it is compiled as its base is: compiled classes have no interpreted children.
"""

from __future__ import annotations

from sidecar.net.server import ServerConnection


class Nobody(ServerConnection):
    """A connection without a client. What is written to it is dropped."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def abort(self) -> None:
        """Nothing can be broken."""

    def pause_reading(self) -> None:
        """The whole request is at hand."""

    def resume_reading(self) -> None:
        """The same."""
