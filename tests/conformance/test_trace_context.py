"""The cases of the W3C trace-context test suite, through the real sidecar."""

from __future__ import annotations

import pytest

from tests.support.collector import http_collector
from tests.support.pair import Pair
from tests.unit.tracing.test_w3c import *  # noqa: F403 - the cases; what asks is replaced below
from tests.unit.tracing.test_w3c import PARENT, TRACE, read

pytestmark = pytest.mark.xdist_group("trace context")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with (
        http_collector() as collector,
        Pair(
            tmp_path_factory.mktemp("context"),
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
            tracing={"sample": 1.0},
        ) as pair,
    ):
        yield pair


@pytest.fixture
def send(pair):
    """Sends these field lines and gives what the upstream gets."""

    def send(*fields):
        pair.upstream.forget()
        assert pair.request("GET", "/", *fields).status == 200
        (request,) = pair.upstream.requests
        (traceparent,) = request.values("traceparent")
        return read(traceparent.decode(), [value.decode() for value in request.values("tracestate")])

    return send


@pytest.fixture
def exchange(send):
    def exchange(traceparents=(), tracestates=()):
        return send(
            *(f"traceparent: {value}" for value in traceparents),
            *(f"tracestate: {value}" for value in tracestates),
        )

    return exchange


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, True) for name in ("TraceParent", "TrAcEpArEnT", "TRACEPARENT")),
        *((name, False) for name in ("trace-parent", "trace.parent")),
    ],
)
def test_traceparent_header_name(send, name, known):
    trace_id, *_ = send(f"{name}: 00-{TRACE}-{PARENT}-01")
    assert (trace_id == TRACE) is known


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, True) for name in ("TraceState", "TrAcEsTaTe", "TRACESTATE")),
        *((name, False) for name in ("trace-state", "trace.state")),
    ],
)
def test_tracestate_header_name(send, name, known):
    *_, pairs = send(f"traceparent: 00-{TRACE}-{PARENT}-00", f"{name}: foo=1")
    assert pairs == ({"foo": "1"} if known else {})
