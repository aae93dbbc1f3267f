"""Which host of an upstream gets the next attempt.

Round robin, among those whose breaker lets the attempt pass. A host that fails its health checks, or that
has just been tried in vain, comes last and not never: if it is the only one left, it is better than none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.breaker.core import Breaker
    from sidecar.health import Health


class Host:
    """What a choice needs to know of a host.

    Attributes:
        breaker: The host's circuit breaker.
        health: What active checks say of it.
    """

    __slots__ = ("breaker", "health")

    def __init__(self, breaker: Breaker, health: Health) -> None:
        self.breaker = breaker
        self.health = health


H = TypeVar("H", bound=Host)


class RoundRobin(Generic[H]):
    """Picks hosts in turn.

    Args:
        hosts: In the order of the configuration, at least one.

    Raises:
        ValueError: There is no host.
    """

    __slots__ = ("_next", "hosts")

    def __init__(self, hosts: Sequence[H]) -> None:
        if not hosts:
            raise ValueError("an upstream needs at least one host")
        self.hosts = tuple(hosts)
        self._next = 0

    def pick(self, now: float, tried: H | None = None) -> tuple[H, int] | None:
        """The next host and its breaker's permit, or ``None`` if every breaker refuses.

        Args:
            now: Monotonic seconds.
            tried: The host that the attempt before this one has tried.
        """
        hosts = self.hosts
        host = hosts[self._next]
        if host is not tried and host.health.healthy:
            permit = host.breaker.admit(now)
            if permit:
                self._pass_turn(host)
                return host, permit
        return self._pick_in_order_of_preference(now, tried)

    def retry_after(self, now: float) -> float:
        """Seconds until the first host may let an attempt pass."""
        return min(host.breaker.retry_after(now) for host in self.hosts)

    def refusal(self, now: float) -> int:
        """Whole seconds for which no host will let an attempt pass; 0 if one might."""
        shortest = 0
        for host in self.hosts:
            seconds = host.breaker.refusal(now)
            if not seconds:
                return 0
            if not shortest or seconds < shortest:
                shortest = seconds
        return shortest

    def _pick_in_order_of_preference(self, now: float, tried: H | None) -> tuple[H, int] | None:
        in_turn = self.hosts[self._next :] + self.hosts[: self._next]
        for host in sorted(in_turn, key=lambda host: (not host.health.healthy, host is tried)):
            permit = host.breaker.admit(now)
            if permit:
                self._pass_turn(host)
                return host, permit
        return None

    def _pass_turn(self, host: H) -> None:
        """The host after the one picked is next, so that the turns of one taken out are shared by all."""
        self._next = (self.hosts.index(host) + 1) % len(self.hosts)
