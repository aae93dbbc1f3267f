from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sidecar.balancing import RoundRobin
from sidecar.breaker.core import Breaker
from sidecar.breaker.settings import BreakerSettings
from sidecar.breaker.states import Mode
from sidecar.health import UNHEALTHY_AFTER, Health

NOW = 1000.0


@dataclass(eq=False)
class Host:
    name: str
    breaker: Breaker = field(default_factory=lambda: Breaker(settings=BreakerSettings(success_threshold=1)))
    health: Health = field(default_factory=Health)

    def close_down(self, seconds: float = 60) -> None:
        self.breaker.override(Mode.FORCED_OPEN, NOW, seconds=seconds)

    def fail_checks(self) -> None:
        for _ in range(UNHEALTHY_AFTER):
            self.health.record(passed=False)


@pytest.fixture
def hosts() -> RoundRobin[Host]:
    return RoundRobin([Host("a"), Host("b"), Host("c")])


def picked(hosts: RoundRobin[Host], times: int, tried: Host | None = None) -> str:
    picks = [hosts.pick(NOW, tried) for _ in range(times)]
    return "".join(pick[0].name if pick else "-" for pick in picks)


def test_hosts_take_turns(hosts):
    assert picked(hosts, 7) == "abcabca"


def test_an_open_breaker_is_passed_over_and_its_turns_are_shared(hosts):
    hosts.hosts[0].close_down()
    assert picked(hosts, 6) == "bcbcbc"


def test_a_refusal_is_known_when_every_host_refuses_and_lasts_until_the_first_may_not(hosts):
    a, b, c = hosts.hosts
    a.close_down(60)
    b.close_down(20)
    assert hosts.refusal(NOW) == 0
    c.close_down(40)
    assert hosts.refusal(NOW) == 20
    assert hosts.refusal(NOW + 20) == 0


def test_a_retry_avoids_the_host_just_tried(hosts):
    a, b, _ = hosts.hosts
    assert picked(hosts, 1, tried=a) == "b"
    assert picked(hosts, 1, tried=b) == "c"


def test_the_host_just_tried_is_better_than_none(hosts):
    a, b, c = hosts.hosts
    b.close_down()
    c.close_down()
    assert picked(hosts, 3, tried=a) == "aaa"


def test_an_unhealthy_host_gets_nothing_while_another_is_well(hosts):
    a, b, c = hosts.hosts
    a.fail_checks()
    b.fail_checks()
    assert picked(hosts, 3, tried=c) == "ccc"


def test_when_all_are_unhealthy_all_are_tried(hosts):
    for host in hosts.hosts:
        host.fail_checks()
    assert picked(hosts, 4) == "abca"


def test_when_every_breaker_refuses_there_is_none(hosts):
    for seconds, host in zip((60, 20, 40), hosts.hosts, strict=True):
        host.close_down(seconds)
    assert hosts.pick(NOW) is None
    assert hosts.retry_after(NOW) == 20.0


def test_the_permit_is_the_breakers(hosts):
    host, permit = hosts.pick(NOW)
    for _ in range(5):
        host.breaker.failed(permit, NOW, 0.1)
    assert host.breaker.phase(NOW) == 2


def test_a_half_open_host_gets_one_probe_when_its_turn_comes(hosts):
    a = hosts.hosts[0]
    for _ in range(5):
        a.breaker.failed(a.breaker.admit(NOW), NOW, 0.1)
    later = NOW + 40
    names = [hosts.pick(later)[0].name for _ in range(6)]
    assert names == ["a", "b", "c", "b", "c", "b"]


def test_a_single_host_is_always_its_turn():
    hosts = RoundRobin([Host("a")])
    assert picked(hosts, 2) == "aa"
    assert picked(hosts, 1, tried=hosts.hosts[0]) == "a"


def test_no_host_is_a_mistake():
    with pytest.raises(ValueError, match="at least one host"):
        RoundRobin([])
