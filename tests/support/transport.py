"""A stream transport without a socket: a test plays the peer on the other side of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from tests.support.manual_loop import ManualLoop


class FakeSocket:
    """What lies below a transport.

    Attributes:
        readable_as: The descriptor that is looked at to see if octets have come.
        options: What was set, by level and name.
    """

    def __init__(self, quiet: int) -> None:
        self.readable_as = quiet
        self.options: dict[tuple[int, int], object] = {}

    def fileno(self) -> int:
        """A descriptor."""
        return self.readable_as

    def setsockopt(self, level: int, name: int, value: object) -> None:
        """Note an option."""
        self.options[level, name] = value


class FakeTransport:
    """What a protocol writes to; the test is the peer.

    Attributes:
        socket: Looks quiet unless a test gives it another descriptor.
        received: What the peer has received.
        reading: Whether the protocol takes octets at the moment.
        ended: How the protocol has ended it: ``closed``, ``aborted``, or nothing.
        half_closed: Whether the protocol has closed its sending half.
        unsent: What the protocol has written and the peer has not taken.
        hurried: Whether what the peer does comes in one turn of the loop, before anything else runs.
    """

    def __init__(self, loop: ManualLoop, protocol: Any, peer: object = ("192.0.2.7", 12345)) -> None:
        self._loop = loop
        self._protocol: asyncio.Protocol = protocol
        self._peer = peer
        self._lost = False
        self.socket = FakeSocket(loop.quiet)
        self._taking = True
        self._room = 0
        self._told = False
        self.received = b""
        self.unsent = b""
        self.reading = True
        self.ended = ""
        self.half_closed = False
        self.hurried = False
        protocol.connection_made(self)

    # --- what the protocol does -------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> object:
        """The peer's address, and the socket."""
        return {"peername": self._peer, "socket": self.socket}.get(name)

    def write(self, data: bytes) -> None:
        """Send octets to the peer."""
        assert not self.half_closed, "written behind the end"
        if not self.ended:
            if self._taking:
                self.received += data
            else:
                self.unsent += data
                self._tell_if_full()

    def get_write_buffer_size(self) -> int:
        """Octets that the peer has not taken."""
        return len(self.unsent)

    def can_write_eof(self) -> bool:
        """As TCP does."""
        return True

    def write_eof(self) -> None:
        """Close the sending half."""
        self.half_closed = True

    def pause_reading(self) -> None:
        """Take no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Take octets again."""
        self.reading = True

    def is_closing(self) -> bool:
        """Whether it has been ended."""
        return bool(self.ended)

    def close(self) -> None:
        """End in good order, when the peer has taken what was written."""
        self._end("closed")

    def abort(self) -> None:
        """Break off."""
        self.unsent = b""
        self.ended = ""
        self._end("aborted")

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            if not self.unsent:
                self._loop.call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(error)

    # --- what the peer does -----------------------------------------------------------------------------

    def _turn(self) -> None:
        if not self.hurried:
            self._loop.settle()

    @property
    def is_open(self) -> bool:
        """Whether the protocol still has the connection."""
        return not self._lost and not self.ended

    def send(self, data: bytes) -> None:
        """Send octets to the protocol."""
        if self.is_open:
            assert self.reading, "nobody reads: the kernel would hold the octets back"
            self._protocol.data_received(data)
            self._turn()

    def finish(self) -> None:
        """Close the peer's sending half; a protocol that does not want to go on loses the connection."""
        if self.is_open:
            if not self._protocol.eof_received():
                self._end("closed")
            self._turn()

    def vanish(self, error: Exception | None = None) -> None:
        """Break the connection: ``error`` is what the protocol is told."""
        if not self._lost:
            self.ended = self.ended or "lost"
            self._lose(error if error is not None else ConnectionResetError("reset by peer"))
            self._turn()

    def forget(self) -> None:
        """Close it without a word to the protocol, as uvloop does when its making is cancelled."""
        self.ended = self.ended or "lost"
        self._lost = True

    def stop_taking(self, *, room: int = -1) -> None:
        """Take no octets any more; the protocol is told when it has written more than there is room for."""
        self._taking, self._room = False, room
        self._tell_if_full()
        self._turn()

    def _tell_if_full(self) -> None:
        if len(self.unsent) > self._room and not self._told:
            self._told = True
            self._protocol.pause_writing()

    def take_some(self, count: int) -> None:
        """Take a few octets, not enough for more to be sent."""
        self.received += self.unsent[:count]
        self.unsent = self.unsent[count:]

    def take_again(self) -> None:
        """Take octets again."""
        self._taking = True
        self.take_some(len(self.unsent))
        if self._told:
            self._told = False
            self._protocol.resume_writing()
        if self.ended:
            self._loop.call_soon(self._lose, None)
        self._turn()

    def take(self) -> bytes:
        """What has been received since the last time."""
        received, self.received = self.received, b""
        return received
