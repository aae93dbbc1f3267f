import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.settings.coverage import unreachable
from sidecar.settings.model import Match
from tests.unit.test_routing import MATCHES, REQUESTS, naive

TWO = ("ingress", "egress")


def covered(*matches, listeners=TWO):
    return list(unreachable(list(enumerate(matches)), listeners))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Match(), Match(path="/a")),
        (Match(prefix="/a"), Match(prefix="/a/b")),
        (Match(prefix="/a"), Match(prefix="/a/")),
        (Match(prefix="/a"), Match(path="/a")),
        (Match(prefix="/a"), Match(path="/a/{x}")),
        (Match(path="/a/{x}"), Match(path="/a/b")),
        (Match(path="/a/{x}"), Match(path="/a/{y}")),
        (Match(path="/a"), Match(path="/a", methods=("POST",))),
        (Match(path="/a", methods=("GET",)), Match(path="/a", methods=("HEAD",))),
        (Match(path="/a"), Match(path="/a", host="x")),
        (Match(path="/a", host="X"), Match(path="/a", host="x", listener="egress")),
        (Match(path="/a"), Match(path="/%61")),
    ],
)
def test_a_covered_route(earlier, later):
    assert covered(earlier, later) == [(1, 0)]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Match(path="/a"), Match()),
        (Match(path="/a/b"), Match(path="/a/{x}")),
        (Match(path="/a/{x}"), Match(prefix="/a/b")),
        (Match(path="/a/{x}"), Match(path="/a/")),
        (Match(path="/a/{x}"), Match(path="/a/b/c")),
        (Match(prefix="/a/b"), Match(prefix="/a")),
        (Match(path="/a", methods=("POST",)), Match(path="/a")),
        (Match(path="/a", methods=("POST",)), Match(path="/a", methods=("POST", "PUT"))),
        (Match(path="/a", host="x"), Match(path="/a")),
        (Match(path="/a", listener="egress"), Match(path="/a")),
        (Match(path="/a", listener="egress"), Match(path="/a", listener="ingress")),
    ],
)
def test_a_route_that_can_be_reached(earlier, later):
    assert covered(earlier, later) == []


def test_naming_the_only_listener_restricts_nothing():
    assert covered(Match(listener="ingress"), Match(), listeners=("ingress",)) == [(1, 0)]


def test_the_first_that_covers_is_named():
    assert covered(Match(prefix="/a"), Match(path="/b"), Match(), Match(path="/a/b")) == [(3, 0)]


@settings(max_examples=200)
@given(st.lists(MATCHES, max_size=10), st.lists(REQUESTS, min_size=1, max_size=20))
def test_no_request_reaches_an_unreachable_route(matches, requests):
    dead = {position for position, _ in unreachable(list(enumerate(matches)), TWO)}
    for request in requests:
        found = naive(matches, *request)
        assert found is None or found[0] not in dead
