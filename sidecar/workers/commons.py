"""What the processes of one sidecar share: the numbers of its guards, and the keys that it has sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from sidecar.idempotency.sent import SentKeys
from sidecar.proxy import new_name
from sidecar.scoreboard.shared import Handle, Scoreboard, nameless_file

if TYPE_CHECKING:
    from sidecar.settings.model import Settings

_FEWEST_ROWS: Final = 1024
_SPARE: Final = 4
"""Times as many rows as the configuration needs, since later ones may need more; unused rows cost nothing."""


class CommonsHandle(NamedTuple):
    """What a process needs to join, beside the inherited descriptors.

    Attributes:
        board: Of the scoreboard.
        sent: Descriptor of the memory of sent keys.
        name: The sidecar's.
    """

    board: Handle
    sent: int
    name: bytes

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that must be inherited."""
        return (*self.board.descriptors, self.sent)


class Commons:
    """Memory that all processes of a sidecar map; the first process is number 0, its workers follow.

    Attributes:
        handle: What other processes join by.
        board: The numbers of breakers, retry budgets, bulkheads and health checks.
        sent: Keys that were sent.
        name: The sidecar's in ``Via``, by which each process knows a loop.
    """

    def __init__(self, handle: CommonsHandle, number: int) -> None:
        self.handle = handle
        self.board = Scoreboard(handle.board)
        self.board.join(number)
        self.sent = SentKeys(fd=handle.sent)
        self.name = handle.name

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """New ones, joined by the first process."""
        rows = max(_FEWEST_ROWS, _SPARE * _rows_needed(settings))
        board = Scoreboard.make(1 + settings.workers, rows)
        return cls(CommonsHandle(board.handle, nameless_file(SentKeys.size()), new_name()), 0)


def _rows_needed(settings: Settings) -> int:
    """A budget and a bulkhead for each upstream, a breaker and a health check for each host."""
    return sum(2 + 2 * len(upstream.hosts) for upstream in settings.upstreams.values())
