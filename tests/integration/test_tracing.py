"""Traces of the real sidecar, as a collector gets them: trees across services, attributes, links."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tests.contract.redis_servers import KINDS, Server
from tests.support import services
from tests.support.client import HTTP
from tests.support.collector import attributes, grpc_collector, http_collector
from tests.support.pair import Pair
from tests.support.ports import free_port
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import Do, Reply, Upstream, answer
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("tracing")

SERVER, CLIENT = 2, 3
ERROR = 2
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
STATES = ("congo=t61rcWkgMzE , rojo=00f067aa0ba902b7", "vendor@tenant=1")


def exporting_to(url, **variables):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "20", **variables}


@pytest.fixture(scope="module")
def collector():
    with http_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def shared(collector, tmp_path_factory):
    routes = [
        {"name": "one", "match": {"path": "/requests/{id}"}, "upstream": "app"},
        {"name": "retried", "match": {"prefix": "/retried"}, "upstream": "retried"},
        {"name": "gone", "match": {"prefix": "/gone"}, "upstream": "gone"},
        {"name": "opening", "match": {"prefix": "/opening"}, "upstream": "opening"},
        {"name": "rest", "match": {"prefix": "/rest"}, "upstream": "app"},
    ]
    upstreams = {
        "retried": {"retry": {"initial_delay": "1ms"}},
        "gone": {"url": f"http://127.0.0.1:{free_port()}", "retry": {"max_attempts": 1}},
        "opening": {"retry": {"max_attempts": 1}, "breaker": {"failure_threshold": 2}},
    }
    with Pair(
        tmp_path_factory.mktemp("tracing"),
        upstreams,
        routes,
        env=exporting_to(collector.url),
        service="orders",
        tracing={"sample": 1.0},
    ) as pair:
        yield pair


@pytest.fixture
def pair(shared):
    shared.upstream.forget()
    return shared


def trace_of(pair, response):
    """The trace id of a request, by its access line."""
    return pair.sidecar.access_line(correlation_id=response["x-correlation-id"].decode())["trace_id"]


def spans_of(pair, collector, response, count):
    return collector.trace(trace_of(pair, response), count)


def parts(request):
    """Trace id, parent id and flags that the upstream got."""
    version, trace_id, parent_id, flags = request["traceparent"].decode().split("-")
    assert version == "00"
    return trace_id, parent_id, flags


# --- one exchange


def test_a_server_span_tells_the_whole_exchange(pair, collector):
    pair.upstream.reply = Reply([answer(b"0123456789", status="201 Created")])
    response = pair.request(
        "POST",
        "/requests/17?full=1&token=s3cret",
        *("X-Correlation-ID: corr-17", "User-Agent: tests/1.0", "Idempotency-Key: k-17"),
        body=b"hello",
        host="shop.test:8080",
    )
    server, client = spans_of(pair, collector, response, 2)
    assert (server.name, server.kind, server.status.code) == ("POST /requests/{id}", SERVER, 0)
    assert server.parent_span_id == b""
    assert 0 < server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": "/requests/{id}",
        "http.response.status_code": 201,
        "http.request.body.size": 5,
        "http.response.body.size": 10,
        "url.scheme": "http",
        "url.path": "/requests/17",
        "url.query": "full=1&token=***",
        "server.address": "shop.test",
        "server.port": 8080,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "tests/1.0",
        "correlation.id": "corr-17",
        "sidecar.route": "one",
        "sidecar.idempotency": "executed",
    }
    assert (client.name, client.kind, client.status.code) == ("POST", CLIENT, 0)
    assert attributes(client) == {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "url.full": f"http://127.0.0.1:{pair.upstream.port}/requests/17?full=1&token=***",
        "server.address": "127.0.0.1",
        "server.port": pair.upstream.port,
        "network.protocol.version": "1.1",
        "correlation.id": "corr-17",
        "sidecar.upstream": "app",
        "sidecar.breaker": "closed",
    }
    assert client.parent_span_id == server.span_id
    assert parts(pair.upstream.requests[0]) == (server.trace_id.hex(), client.span_id.hex(), "01")
    assert collector.services[server.span_id] == "orders"


def test_every_attempt_is_a_span_below_the_exchange(pair, collector):
    outcomes = iter([[answer(b"", status="503 Service Unavailable")], [Do.RESET], [answer(b"ok")]])

    def flaky(connection, request):
        Reply(next(outcomes))(connection, request)

    pair.upstream.replies["/retried"] = flaky
    server, *clients = spans_of(pair, collector, pair.request("GET", "/retried"), 4)
    assert server.status.code == 0
    assert [client.parent_span_id for client in clients] == [server.span_id] * 3
    assert [parts(request)[1] for request in pair.upstream.requests] == [it.span_id.hex() for it in clients]
    found = [attributes(client) for client in clients]
    assert [it.get("http.request.resend_count") for it in found] == [None, 1, 2]
    assert [it.get("http.response.status_code") for it in found] == [503, None, 200]
    assert [it.get("error.type") for it in found] == ["503", "reset", None]
    assert [client.status.code for client in clients] == [ERROR, ERROR, 0]


def test_what_was_not_tried_again_says_why(pair, collector):
    pair.upstream.replies["/retried"] = Reply([Do.CLOSE])
    server, client = spans_of(pair, collector, pair.request("POST", "/retried", body=b"x"), 2)
    assert server.status.code == ERROR
    found = attributes(server)
    assert (found["error.type"], found["sidecar.reason"]) == ("upstream_unreachable",) * 2
    assert found["sidecar.retry_skipped"] == "method"
    assert attributes(client)["error.type"] == "reset"


def test_an_open_breaker_is_an_outcome_without_attempts(pair, collector):
    refused = pair.request("GET", "/gone")
    _, client = spans_of(pair, collector, refused, 2)
    assert attributes(client)["error.type"] == "connect_refused"
    for _ in range(4):
        pair.request("GET", "/gone")
    (server,) = spans_of(pair, collector, pair.request("GET", "/gone"), 1)
    found = attributes(server)
    assert (found["sidecar.reason"], found["http.response.status_code"]) == ("circuit_open", 503)


@pytest.mark.parametrize("script", [[Do.RESET], [answer(b"", status="503 Busy")]], ids=["reset", "503"])
def test_the_attempt_that_opens_the_breaker_tells_of_it(pair, collector, script):
    for content in ({"mode": "forced_closed", "for": "1m"}, {"mode": "auto"}):
        pair.sidecar.ask("PUT", "/admin/upstreams/opening/breaker", json=content).raise_for_status()
    pair.upstream.replies["/opening"] = Reply(script)
    _, first = spans_of(pair, collector, pair.request("GET", "/opening"), 2)
    _, second = spans_of(pair, collector, pair.request("GET", "/opening"), 2)
    assert list(first.events) == []
    (event,) = second.events
    told = attributes(event)
    assert event.name == "circuit breaker"
    assert (told["before"], told["after"], told["cause"]) == ("closed", "open", "failures_in_a_row")
    assert (told["calls"], told["failures_in_a_row"]) == (2, 2)


def test_an_answer_that_breaks_off_is_an_error_of_the_attempt(pair, collector):
    pair.upstream.reply = Reply([b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", Do.RESET])
    with pair.client() as client:
        client.send(b"GET /rest HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: broken-off\r\n\r\n")
        client.head()
        line = pair.sidecar.access_line(correlation_id="broken-off")
    server, client = collector.trace(line["trace_id"], 2)
    found = attributes(client)
    assert (found["http.response.status_code"], found["error.type"]) == (200, line["cause"])
    assert attributes(server)["sidecar.reason"] == "upstream_unreachable"


def test_a_client_that_leaves_ends_its_spans(pair, collector):
    never = threading.Event()
    pair.upstream.reply = Reply([never])
    client = pair.client()
    client.send(b"GET /rest/left HTTP/1.1\r\nHost: test\r\nX-Correlation-ID: left\r\n\r\n")
    pair.upstream.wait_request("/rest/left")
    client.reset()
    trace_id = pair.sidecar.access_line(correlation_id="left")["trace_id"]
    never.set()
    server, attempt = collector.trace(trace_id, 2)
    assert attributes(server)["http.response.status_code"] == 499
    assert (server.status.code, attributes(server)["sidecar.reason"]) == (0, "client_gone")
    assert attributes(attempt)["error.type"] == "cancelled"
    assert attempt.start_time_unix_nano < attempt.end_time_unix_nano <= server.end_time_unix_nano


def test_a_tunnel_is_a_span_for_as_long_as_it_lasts(pair, collector):
    switch = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"
    pair.upstream.reply = Reply([switch, b"hello", Do.CLOSE])
    with pair.client() as client:
        client.send(
            b"GET /rest HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n"
            b"X-Correlation-ID: tunnel\r\n\r\n"
        )
        client.head()
    server, attempt = collector.trace(pair.sidecar.access_line(correlation_id="tunnel")["trace_id"], 2)
    for span in (server, attempt):
        assert attributes(span)["http.response.status_code"] == 101
        assert (span.status.code, span.start_time_unix_nano < span.end_time_unix_nano) == (0, True)
    assert attributes(server)["http.response.body.size"] == 5


def test_a_request_is_followed_from_its_answer_to_its_dead_letter(start_sidecar, collector):
    """By the correlation id alone: the access line, the trace that it names, the record."""
    config = config_for(f"http://127.0.0.1:{free_port()}", tracing={"sample": 1.0})
    config["routes"][0]["dead_letter"] = True
    config["upstreams"]["app"]["retry"] = {"max_attempts": 2, "initial_delay": "1ms"}
    sidecar = start_sidecar(config, env=exporting_to(collector.url))
    with sidecar.client() as client:
        response = client.request("POST", "/orders", body=b"{}")
    correlation_id = response["x-correlation-id"].decode()
    line = sidecar.access_line(correlation_id=correlation_id)
    assert (line["reason"], line["cause"], line["attempts"]) == ("upstream_unreachable", "connect_refused", 2)
    spans = collector.trace(line["trace_id"], 3)
    assert {attributes(span)["correlation.id"] for span in spans} == {correlation_id}
    letters = sidecar.get(f"/admin/dlq/HTTP_REQUEST?correlation_id={correlation_id}").json()["items"]
    (record,) = letters
    assert (record["id"], record["trace_id"]) == (response["x-dead-letter-id"].decode(), line["trace_id"])
    assert len(record["attempts"]) == 2


def test_no_route_is_a_span_without_one(pair, collector):
    (server,) = spans_of(pair, collector, pair.request("BREW", "/nowhere"), 1)
    found = attributes(server)
    assert server.name == "HTTP"
    assert "http.route" not in found
    assert (found["http.request.method"], found["http.request.method_original"]) == ("_OTHER", "BREW")
    assert (found["sidecar.route"], found["sidecar.reason"]) == ("unmatched", "no_route")


@pytest.mark.parametrize("agent", ["\x85\xa0é", '"\\', "x" * 5000], ids=["octets", "quotes", "long"])
def test_hostile_fields_reach_the_collector_as_text(pair, collector, agent):
    response = pair.request("GET", "/rest/%0d%0a%1b[31m?a=%00", f"User-Agent: {agent}")
    server, _ = spans_of(pair, collector, response, 2)
    found = attributes(server)
    assert agent.startswith(found["user_agent.original"])
    assert len(found["user_agent.original"]) >= min(len(agent), 2048)
    assert found["url.path"] == "/rest/%0d%0a%1b[31m"


# --- contexts of callers


def test_a_callers_sampled_trace_goes_on(pair, collector):
    fields = (f"traceparent: 00-{TRACE[:-2]}01-{PARENT}-01", *(f"tracestate: {it}" for it in STATES))
    response = pair.request("GET", "/rest", *fields)
    server, client = spans_of(pair, collector, response, 2)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE[:-2] + "01", PARENT)
    assert server.flags & 0x300 == 0x300  # the parent is known to be remote
    request = pair.upstream.requests[0]
    assert parts(request) == (TRACE[:-2] + "01", client.span_id.hex(), "01")
    assert request.values("tracestate") == [it.encode() for it in STATES]


@pytest.mark.parametrize("flags", ["00", "02"])
def test_an_unsampled_one_passes_to_the_octet_and_is_no_span(pair, collector, flags):
    traceparent = f"00-{TRACE[:-2]}{flags}-{PARENT}-{flags}"
    fields = (f"traceparent: {traceparent}", *(f"tracestate: {it}" for it in STATES))
    response = pair.request("GET", "/rest", *fields)
    request = pair.upstream.requests[0]
    assert request.values("traceparent") == [traceparent.encode()]
    assert request.values("tracestate") == [it.encode() for it in STATES]
    assert trace_of(pair, response) == f"{TRACE[:-2]}{flags}"  # logs have it all the same
    spans_of(pair, collector, pair.request("GET", "/rest"), 2)  # whatever came before has been exported too
    assert TRACE[:-2] + flags not in {span.trace_id.hex() for span in collector.spans}


def test_baggage_passes_while_it_is_well_formed(pair):
    good = "userId=alice;ttl=60, serverNode = DF%2028"
    pair.request("GET", "/rest", f"baggage: {good}", "baggage: second=1")
    pair.request("GET", "/rest", 'baggage: good=1,bad key=2,quoted="x",also=3')
    pair.request("GET", "/rest", "baggage: " + ",".join(f"key{n:03}=" + "v" * 90 for n in range(120)))
    pair.request("GET", "/rest", "baggage: ,;=")
    kept, mended, oversized, dropped = (it.values("baggage") for it in pair.upstream.requests)
    assert kept == [good.encode(), b"second=1"]
    assert mended == [b"good=1,also=3"]
    (line,) = oversized
    assert 8_000 < len(line) <= 8192
    assert all(len(member) == 97 for member in line.split(b","))
    assert dropped == []


def test_one_that_the_sampler_leaves_out_begins_unsampled(start_sidecar, upstream, collector):
    config = config_for(upstream.url, tracing={"sample": 0.5})
    sidecar = start_sidecar(config, env=exporting_to(collector.url, OTEL_TRACES_SAMPLER="always_off"))
    with sidecar.client() as client:
        client.request("GET", "/", f"traceparent: 00-{TRACE}-{PARENT}-01")
        client.request("GET", "/")
    passed, begun = (request["traceparent"].decode() for request in upstream.requests)
    assert passed == f"00-{TRACE}-{PARENT}-01"
    assert begun.endswith("-00")


def test_without_a_collector_contexts_go_on_and_nothing_is_exported(start_sidecar, upstream):
    sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}))
    with sidecar.client() as client:
        client.request("GET", "/", f"traceparent: 00-{TRACE}-{PARENT}-01")
        client.request("GET", "/")
    sampled, begun = (parts(request) for request in upstream.requests)
    assert (sampled[0], sampled[2], begun[2]) == (TRACE, "01", "01")
    assert sampled[1] != PARENT
    assert sidecar.metric("otel_spans_exported_total") == 0


# --- replays


@pytest.fixture(params=["memory", *KINDS])
def keyed(request, tmp_path, collector):
    """A sidecar with each kind of store, before an upstream."""
    server = None if request.param == "memory" else Server(request.param, tmp_path)
    store = {} if server is None else {"store": server.url}
    try:
        with Pair(tmp_path, env=exporting_to(collector.url), tracing={"sample": 1.0}, **store) as pair:
            yield pair
    finally:
        if server is not None:
            server.close()


def test_a_replay_links_to_the_original(keyed, collector):
    first, again = (keyed.request("POST", "/", "Idempotency-Key: link", body=b"x") for _ in range(2))
    original, _ = spans_of(keyed, collector, first, 2)
    (replay,) = spans_of(keyed, collector, again, 1)
    assert again["x-idempotent-replayed"] == b"true"
    assert replay.trace_id != original.trace_id
    assert [(link.trace_id, link.span_id) for link in replay.links] == [(original.trace_id, original.span_id)]
    assert attributes(replay)["sidecar.idempotency"] == "replayed"
    assert list(original.links) == []
    unsampled = f"traceparent: 00-{TRACE}-{PARENT}-00"
    keyed.request("POST", "/", "Idempotency-Key: plain", unsampled, body=b"x")
    (replay,) = spans_of(keyed, collector, keyed.request("POST", "/", "Idempotency-Key: plain", body=b"x"), 1)
    assert list(replay.links) == []  # the original left nothing to link to


# --- across services


@pytest.fixture(scope="module")
def front(collector):
    with closing(services.traced_service("front", collector.url)) as service:
        yield service


@pytest.fixture(scope="module")
def back(collector):
    with closing(services.traced_service("back", collector.url)) as service:
        yield service


def test_a_tree_from_service_through_sidecar_to_service(start_sidecar, front, back, collector):
    """Two attempts, each with what the second service did below it."""
    config = config_for(back.url, service="payments-sidecar")
    config["upstreams"]["app"]["retry"] = {"initial_delay": "1ms"}
    sidecar = start_sidecar(config, env=exporting_to(collector.url))
    answered = HTTP.get(
        f"{front.url}/relay",
        params={"to": f"{sidecar.url}/work?fail=once"},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Correlation-ID": "tree-1"},
    )
    assert (answered.status_code, answered.text) == (200, "done")
    spans = collector.trace(TRACE, 7)
    names = {span.span_id: (collector.services[span.span_id], span.name) for span in spans}
    tree = sorted(
        (*names[span.span_id], names.get(span.parent_span_id, ("", ""))[0] or span.parent_span_id.hex())
        for span in spans
    )
    assert tree == [
        ("back", "GET /work", "payments-sidecar"),
        ("back", "GET /work", "payments-sidecar"),
        ("front", "GET /relay", PARENT),
        ("front", "call", "front"),
        ("payments-sidecar", "GET", "payments-sidecar"),
        ("payments-sidecar", "GET", "payments-sidecar"),
        ("payments-sidecar", "GET /", "front"),
    ]
    attempts = [span.span_id for span in spans if span.kind == CLIENT]
    works = [span for span in spans if collector.services[span.span_id] == "back"]
    assert [span.parent_span_id for span in works] == attempts
    assert [attributes(span)["http.response.status_code"] for span in works] == [503, 200]
    with_id = [span for span in spans if attributes(span).get("correlation.id") == "tree-1"]
    assert len(with_id) == 6  # all but the span that the service's own code began


# --- endpoints


def test_the_full_path_in_the_endpoint_is_not_doubled(start_sidecar, upstream):
    """And says nothing about metrics; those have a variable of their own."""
    with http_collector() as traces, http_collector() as metrics:
        env = exporting_to(
            f"{traces.url}/v1/traces",
            OTEL_EXPORTER_METRICS_ENDPOINT=f"{metrics.url}/v1/metrics",
            OTEL_METRIC_EXPORT_INTERVAL="50",
        )
        sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}), env=env)
        with sidecar.client() as client:
            client.request("GET", "/")
        eventually(lambda: len(traces.spans) == 2 and metrics.metrics, "spans and metrics")
        assert set(traces.paths) == {"/v1/traces"}
        assert set(metrics.paths) == {"/v1/metrics"}


def test_workers_export_their_spans_and_one_sum_of_all_figures(start_sidecar, upstream, tmp_path):
    with http_collector() as collector, closing(Server(KINDS[0], tmp_path)) as store:
        env = exporting_to(collector.url, OTEL_METRIC_EXPORT_INTERVAL="100")
        config = config_for(upstream.url, workers=2, store=store.url, tracing={"sample": 1.0})
        sidecar = start_sidecar(config, env=env)
        for _ in range(20):  # each on a connection of its own, so that both get some
            with sidecar.client() as client:
                client.request("GET", "/")
        eventually(lambda: len(collector.spans) == 40, "two spans a request")

        def pushed():
            for request in collector.metrics[-1:]:
                (scope,) = request.resource_metrics[0].scope_metrics
                counts = [it.sum.data_points for it in scope.metrics if it.name == "http_requests_total"]
                return sum(point.as_double for points in counts for point in points) == 20
            return False

        eventually(pushed, "the figures of both workers, added up")
        assert sidecar.metric("otel_spans_exported_total") == 40
        assert len({span.span_id for span in collector.spans}) == 40


def test_spans_over_grpc(start_sidecar, upstream):
    with grpc_collector() as collector:
        env = exporting_to(collector.url, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        sidecar = start_sidecar(config_for(upstream.url, tracing={"sample": 1.0}), env=env)
        with sidecar.client() as client:
            client.request("GET", "/")
        eventually(lambda: len(collector.spans) == 2, "two spans")
        assert sidecar.stop() == 0


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_TRACES_SAMPLER",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ],
)
def test_a_variable_that_cannot_be_followed_stops_the_start(tmp_path, variable):
    with Upstream() as upstream:
        env = exporting_to("http://127.0.0.1:1", **{variable: "nonsense"})
        sidecar = Sidecar(config_for(upstream.url), tmp_path, env=env, expect_ready=False)
        eventually(lambda: sidecar.process.exit_code is not None, "it has ended")
        assert sidecar.process.exit_code == 1
        output = sidecar.process.output()
        assert variable in output
        assert "Traceback" not in output
