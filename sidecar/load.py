"""How much a sidecar has in hand at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Connections(NamedTuple):
    """Connections to a host.

    Attributes:
        open: Those that are open.
        idle: Those of them that wait for their next request.
    """

    open: int = 0
    idle: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a process has in hand; added up, what a sidecar has.

    Attributes:
        in_flight: Requests being answered.
        executions: Executions under a key that are not settled in the store.
        unwritten: Writes that the store has not taken yet.
        connections: Connections to each host, by the upstream's name and the host's label.
    """

    in_flight: int
    executions: int
    unwritten: int
    connections: dict[tuple[str, str], Connections]

    def __add__(self, other: Load) -> Load:
        connections = dict(self.connections)
        for host, more in other.connections.items():
            known = connections.get(host, Connections())
            connections[host] = Connections(known.open + more.open, known.idle + more.idle)
        return Load(
            self.in_flight + other.in_flight,
            self.executions + other.executions,
            self.unwritten + other.unwritten,
            connections,
        )
