"""Which upstream a request reaches: host, path, template, prefix, method, listener; and what nobody takes."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from tests.support.ports import free_port
from tests.support.raw import Client, error_of
from tests.support.sidecar import Sidecar
from tests.support.upstream import OK, Reply, Upstream

pytestmark = pytest.mark.xdist_group("routes")

# In the file's order: the first that matches wins.
ROUTES = [
    {"name": "exact", "match": {"path": "/api/v1/requests"}},
    {"name": "one", "match": {"path": "/api/v1/requests/{id}"}},
    {"name": "nested", "match": {"path": "/users/{user}/orders/{order}"}},
    {"name": "host", "match": {"host": "pay.local"}},
    {"name": "writes", "match": {"prefix": "/method", "methods": ["POST", "DELETE"]}},
    {"name": "reads", "match": {"prefix": "/method", "methods": ["GET"]}},
    {"name": "specific", "match": {"prefix": "/api/special"}},
    {"name": "api", "match": {"prefix": "/api"}},
    {"name": "egress", "match": {"listener": "egress"}},
]


class Rig:
    """One upstream a route, so that what a request has reached is certain."""

    def __init__(self, stack: ExitStack, folder) -> None:
        names = [route["name"] for route in ROUTES]
        self.upstreams = {name: stack.enter_context(Upstream()) for name in names}
        self.egress_port = free_port()
        ingress_port = free_port()
        config = {
            "upstreams": {name: {"url": server.url} for name, server in self.upstreams.items()},
            "routes": [{**route, "upstream": route["name"]} for route in ROUTES],
            "listeners": [
                {"name": "ingress", "bind": f"127.0.0.1:{ingress_port}"},
                {"name": "egress", "bind": f"127.0.0.1:{self.egress_port}"},
            ],
        }
        self.sidecar = stack.enter_context(closing(Sidecar(config, folder)))
        self.ports = {"ingress": ingress_port, "egress": self.egress_port}

    def send(self, method, target, *, host="test", listener="ingress"):
        """The response, and the names of the upstreams that the request has reached."""
        for upstream in self.upstreams.values():
            upstream.forget()
            if method == "HEAD":
                upstream.reply = Reply([OK.removesuffix(b"ok")])
        with Client(("127.0.0.1", self.ports[listener])) as client:
            response = client.request(method, target, host=host)
        return response, {name for name, it in self.upstreams.items() if it.requests}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with ExitStack() as stack:
        yield Rig(stack, tmp_path_factory.mktemp("routes"))


@pytest.mark.parametrize(
    ("method", "target", "host", "route"),
    [
        ("GET", "/api/v1/requests", "test", "exact"),
        ("POST", "/api/v1/requests?a=b/c", "test", "exact"),
        ("GET", "/api/v1/requests/", "test", "api"),  # the id must not be empty
        ("GET", "/api/v1/requests/42", "test", "one"),
        ("GET", "/api/v1/requests/a%2Fb", "test", "one"),  # an encoded slash is data
        ("GET", "/api/v1/requests/42/more", "test", "api"),
        ("GET", "/users/1/orders/2", "test", "nested"),
        ("GET", "/api", "test", "api"),
        ("GET", "/api/", "test", "api"),
        ("GET", "/api/x/y/z", "test", "api"),
        ("GET", "/api/special/x", "test", "specific"),
        ("GET", "/api/specially", "test", "api"),
        ("GET", "/anything", "pay.local", "host"),
        ("GET", "/anything", "PAY.local:8443", "host"),
        ("GET", "/anything", "pay.local.", "host"),
        ("GET", "/api/v1/requests", "pay.local", "exact"),  # it stands first
        ("GET", "/api", "pay.local", "host"),
        ("POST", "/method/x", "test", "writes"),
        ("DELETE", "/method", "test", "writes"),
        ("GET", "/method", "test", "reads"),
        ("HEAD", "/method", "test", "reads"),
    ],
)
def test_the_first_route_that_matches_takes_it(rig, method, target, host, route):
    response, reached = rig.send(method, target, host=host)
    assert (response.status, reached) == (200, {route})
    assert rig.upstreams[route].requests[0].target == target.encode()
    assert rig.upstreams[route].requests[0]["host"] == host.encode()


@pytest.mark.parametrize(
    ("method", "target", "host"),
    [
        ("GET", "/apiary", "test"),  # a prefix matches whole segments
        ("GET", "/API", "test"),
        ("GET", "/users/1/orders/", "test"),
        ("GET", "/users//orders/2", "test"),
        ("PUT", "/method", "test"),
        ("GET", "/", "test"),
        ("GET", "/anything", "notpay.local"),
        ("GET", "/anything", "pay.local.evil"),
        ("OPTIONS", "/", "test"),
    ],
)
def test_what_no_route_takes_is_a_404_that_says_so(rig, method, target, host):
    response, reached = rig.send(method, target, host=host)
    assert (response.status, reached) == (404, set())
    error = error_of(response)
    assert error["code"] == "NO_ROUTE"
    line = rig.sidecar.access_line(correlation_id=error["correlation_id"])
    assert (line["route"], line["status"], line["reason"]) == ("unmatched", 404, "no_route")
    assert (line["method"], line["path"], line["attempts"]) == (method, target, 0)


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/api/v1/%72equests", "exact"),
        ("/api/v1//requests", "exact"),
        ("/api/v1/x/../requests", "exact"),
        ("/api/v1/x/%2e%2e/requests", "exact"),
        ("/api/./v1/requests", "exact"),
        ("/nothing/../api/special", "specific"),
    ],
)
def test_no_route_is_evaded_by_another_spelling(rig, target, route):
    """The upstream still gets the target as it came."""
    _, reached = rig.send("GET", target)
    assert reached == {route}
    assert rig.upstreams[route].requests[0].target == target.encode()


def test_a_listener_has_routes_of_its_own(rig):
    assert rig.send("GET", "/outgoing", listener="egress")[1] == {"egress"}
    assert rig.send("GET", "/outgoing", listener="ingress")[0].status == 404
    assert rig.send("GET", "/api/x", listener="egress")[1] == {"api"}


def test_the_absolute_form_goes_by_its_own_host(rig):
    """RFC 9112, section 3.2.2: as clients of an egress proxy send it."""
    for upstream in rig.upstreams.values():
        upstream.forget()
    with Client(("127.0.0.1", rig.egress_port)) as client:
        client.send(b"GET http://pay.local/charge?x=1 HTTP/1.1\r\nHost: pay.local\r\n\r\n")
        assert client.response().status == 200
    request = rig.upstreams["host"].requests[0]
    assert (request.target, request["host"]) == (b"/charge?x=1", b"pay.local")


def test_metrics_go_by_the_routes_name(rig):
    before = rig.sidecar.metric("http_requests_total", route="nested", status_code="200", method="GET")
    for number in range(20):
        rig.send("GET", f"/users/{number}/orders/{number}")
    labels = {"route": "nested", "status_code": "200", "method": "GET", "service": "sidecar"}
    assert rig.sidecar.metric("http_requests_total", **labels) == before + 20
    assert rig.sidecar.metric("http_request_duration_ms_count", route="nested") >= 20
    assert rig.sidecar.metric("http_requests_total", route="unmatched", status_code="404") > 0


def test_labels_come_from_a_bounded_set(rig):
    before = rig.sidecar.get("/metrics").text.count("\n")
    for number in range(50):
        rig.send(f"METHOD{number}", f"/api/{number}")
        rig.send("GET", f"/unknown/{number}")
    after = rig.sidecar.get("/metrics").text
    assert rig.sidecar.metric("http_requests_total", method="_OTHER", route="api") >= 50
    assert "METHOD" not in after
    # One more method may have brought one more series of each kind, and its histogram's buckets.
    assert after.count("\n") < before + 60
