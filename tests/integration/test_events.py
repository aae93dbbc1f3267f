"""Events through the real sidecar: published over the admin port, delivered to a service, or kept."""

from __future__ import annotations

import json
import threading
from contextlib import closing

import pytest
from cloudevents.core.bindings import http as cloudevents
from cloudevents.core.v1.event import CloudEvent
from redis import Redis

from tests.contract.redis_servers import KINDS, Server
from tests.support.collector import http_collector
from tests.support.sidecar import UUID7, config_for
from tests.support.upstream import Reply, answer
from tests.support.waiting import PATIENCE, eventually

TYPE = "REQUEST_CREATED"
HOOK = "/hooks/request-created"
SUBSCRIPTION = {"type": TYPE, "path": HOOK, "upstream": "app"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module", params=["memory", *KINDS])
def store(request, tmp_path_factory):
    """Where events live: in memory, and in each kind of server."""
    if request.param == "memory":
        yield "memory://"
        return
    with closing(Server(request.param, tmp_path_factory.mktemp(request.param))) as server:
        yield server.url


@pytest.fixture
def start(start_sidecar, upstream, store):
    """Starts a sidecar with a subscription whose streams nobody has used before."""
    numbers = iter(range(100))

    def start(*subscriptions, **sections):
        wanted = [{**SUBSCRIPTION, **changes} for changes in subscriptions or ({},)]
        service = f"requests-{next(numbers)}"
        return start_sidecar(
            config_for(
                upstream.url, store=store, service=service, events={"subscriptions": wanted}, **sections
            )
        )

    if store != "memory://":
        Redis.from_url(store).flushall()
    return start


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


def publish(sidecar, payload=None, event_type=TYPE, **options):
    if payload is not None:
        options["json"] = payload
    answered = ask(sidecar, "POST", f"/events/{event_type}", **options)
    assert answered.status_code == 202, answered.text
    assert list(answered.json()) == ["id"]
    return answered.json()["id"]


def letters(sidecar, event_type=TYPE, **query):
    return ask(sidecar, "GET", f"/admin/dlq/{event_type}", params=query).json()["items"]


def wait_letter(sidecar, count=1):
    return eventually(
        lambda: (found := letters(sidecar)) and len(found) == count and found, f"{count} dead letter(s)"
    )


def refuse(upstream, status="422 Unprocessable Content"):
    upstream.replies[HOOK] = Reply((answer(b"", status=status),))


# --- publishing and delivering


def test_json_arrives_as_a_cloudevent(start, upstream):
    sidecar = start()
    body = b'{"id": "r-1", "amount": 1.10}'
    headers = {"X-Correlation-ID": "corr-1", "traceparent": TRACEPARENT, "Content-Type": "application/json"}
    event_id = publish(sidecar, content=body, headers=headers)
    request = upstream.wait_request(HOOK)
    eventually(lambda: request.body == body, "the body has arrived, to the octet")
    assert request.method == b"POST"
    assert request["idempotency-key"] == event_id.encode()
    assert request["x-correlation-id"] == b"corr-1"
    assert request["x-delivery-attempt"] == b"1"
    assert UUID7.fullmatch(event_id.encode())
    headers = {name.decode(): value.decode() for name, value in request.fields}
    event = cloudevents.from_http_event(cloudevents.HTTPMessage(headers, request.body))
    assert (event.get_id(), event.get_type(), event.get_specversion()) == (event_id, TYPE, "1.0")
    assert event.get_source().startswith("/requests-")
    assert event.get_extension("traceparent") == TRACEPARENT
    assert event.get_data() == {"id": "r-1", "amount": 1.1}


@pytest.mark.parametrize("mode", [cloudevents.to_binary_event, cloudevents.to_structured_event])
def test_cloudevents_of_the_reference_implementation(start, upstream, mode):
    sidecar = start()
    attributes = {"id": "ä 7", "source": "/shop", "type": "shop.order", "subject": "o-7"}
    message = mode(
        CloudEvent(attributes={**attributes, "datacontenttype": "application/json"}, data={"n": 1})
    )
    answered = ask(sidecar, "POST", f"/events/{TYPE}", content=message.body, headers=dict(message.headers))
    assert (answered.status_code, answered.json()) == (202, {"id": "ä 7"})
    request = upstream.wait_request(HOOK)
    headers = {name.decode(): value.decode() for name, value in request.fields}
    eventually(lambda: request.body, "the body has arrived")
    event = cloudevents.from_http_event(cloudevents.HTTPMessage(headers, request.body))
    assert (event.get_id(), event.get_type(), event.get_subject()) == ("ä 7", "shop.order", "o-7")
    assert event.get_data() == {"n": 1}


NO_EVENTS = [
    ("a%20b", b"{}", {}, 400),
    ("x" * 101, b"{}", {}, 400),
    ("dlq%3Aindex", b"{}", {}, 400),
    (TYPE, b"", {}, 400),
    (TYPE, b"{", {}, 400),
    (TYPE, b"text", {"Content-Type": "text/plain"}, 400),
    (TYPE, b"[]", {"Content-Type": "application/cloudevents-batch+json"}, 400),
    (TYPE, b"{}", {"ce-id": "1"}, 400),
    (TYPE, b'"' + b"x" * 1_100_000 + b'"', {}, 413),
]


def test_what_is_no_event_is_refused(start, upstream):
    sidecar = start()
    for event_type, content, given, status in NO_EVENTS:
        headers = {"Content-Type": "application/json", **given}
        answered = ask(sidecar, "POST", f"/events/{event_type}", content=content, headers=headers)
        assert answered.status_code == status, (event_type, content[:50], answered.text)
        assert answered.json()["error"]["code"] == ("BAD_REQUEST" if status == 400 else "BODY_TOO_LARGE")
    assert upstream.requests == []


def test_every_subscription_of_a_type_gets_the_event_once(start, upstream):
    sidecar = start({}, {"path": "/hooks/other"})
    event_id = publish(sidecar, {"n": 1})
    for path in (HOOK, "/hooks/other"):
        assert upstream.wait_request(path)["ce-id"] == event_id.encode()
    eventually(lambda: report(sidecar)["pending"] == 0, "the event is acknowledged")
    assert len(upstream.requests) == 2


def report(sidecar):
    return ask(sidecar, "GET", "/admin/subscriptions").json()["items"][0]


def test_subscriptions_tell_how_they_are(start, upstream):
    sidecar = start()
    publish(sidecar, {"n": 1})
    upstream.wait_request(HOOK)
    found = eventually(
        lambda: (it := report(sidecar)) and it["pending"] == 0 and it["lag"] in (0, None) and it,
        "nothing to do",
    )
    assert (found["event_type"], found["upstream"], found["path"]) == (TYPE, "app", HOOK)
    assert (found["in_flight"], found["waiting"], found["paused_for"], found["last_error"]) == (0, 0, 0, None)
    assert sidecar.metric("events_published_total", outcome="streamed") == 1
    assert sidecar.metric("event_deliveries_total", outcome="delivered") == 1


def test_a_failure_is_tried_again_with_the_same_id(start, upstream):
    sidecar = start()
    failed = []

    def fail_once(connection, request):
        failed.append(request)
        Reply((answer(b"", status="503 Service Unavailable" if len(failed) == 1 else "204 No Content"),))(
            connection, request
        )

    upstream.replies[HOOK] = fail_once
    event_id = publish(sidecar, {"n": 1})
    again = upstream.wait_request(HOOK, 2)
    assert again["idempotency-key"] == event_id.encode()
    assert again["x-delivery-attempt"] == b"2"
    eventually(
        lambda: sidecar.metric("event_deliveries_total", outcome="delivered") == 1, "the event is delivered"
    )
    assert sidecar.metric("event_deliveries_total", outcome="retried") == 1
    assert letters(sidecar) == []


def test_a_subscriber_that_hangs_is_given_up_on_and_asked_again(start_sidecar, upstream):
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate,))
    config = config_for(upstream.url, events={"subscriptions": [{**SUBSCRIPTION, "max_attempts": 2}]})
    config["upstreams"]["app"]["timeouts"] = {"first_byte": "100ms"}
    sidecar = start_sidecar(config)
    publish(sidecar, {"n": 1})
    (record,) = wait_letter(sidecar)
    gate.set()
    errors = [attempt["error"] for attempt in record["attempts"]]
    assert errors == ["UPSTREAM_TIMEOUT: the upstream did not answer in time (first_byte)"] * 2
    assert len(upstream.on(HOOK)) == 2


def test_order_is_kept_within_a_partition(start, upstream):
    sidecar = start({"partition_by": "/customer"})
    for number in range(20):
        publish(sidecar, {"customer": number % 2, "number": number})
    upstream.wait_request(HOOK, 20)
    eventually(lambda: all(request.body for request in upstream.on(HOOK)), "every body has arrived")
    got = [json.loads(request.body) for request in upstream.on(HOOK)]
    for customer in (0, 1):
        numbers = [it["number"] for it in got if it["customer"] == customer]
        assert numbers == sorted(numbers)


def test_an_open_breaker_pauses_and_spends_no_attempt(start, upstream):
    sidecar = start({"max_attempts": 1})
    hold(sidecar, "forced_open", "3s")  # after which a subscription asks again, or after five
    ids = [publish(sidecar, {"n": number}) for number in range(3)]
    eventually(lambda: report(sidecar)["paused_for"] > 0, "the subscription pauses")
    assert "CIRCUIT_OPEN" in report(sidecar)["last_error"]
    assert upstream.requests == []
    hold(sidecar, "auto")
    upstream.wait_request(HOOK, 3)
    assert sorted(request["ce-id"].decode() for request in upstream.on(HOOK)) == sorted(ids)
    assert {request["x-delivery-attempt"] for request in upstream.on(HOOK)} == {b"1"}
    assert letters(sidecar) == []
    assert sidecar.metric("event_deliveries_total", outcome="paused") >= 1


def hold(sidecar, mode, lasting="1m"):
    content = {"mode": mode, "reason": "test", **({} if mode == "auto" else {"for": lasting})}
    assert ask(sidecar, "PUT", "/admin/upstreams/app/breaker", json=content).status_code == 200


def test_subscriptions_come_and_go_with_the_configuration(start, upstream):
    sidecar = start()
    publish(sidecar, {"n": 1})
    upstream.wait_request(HOOK)
    changed = {**SUBSCRIPTION, "type": "OTHER", "path": "/hooks/other"}
    sidecar.write({**sidecar.config, "events": {"subscriptions": [changed]}})
    sidecar.reload()
    publish(sidecar, {"n": 2})
    publish(sidecar, {"n": 3}, "OTHER")
    assert upstream.wait_request("/hooks/other").path == b"/hooks/other"
    assert len(upstream.on(HOOK)) == 1
    sidecar.write({**sidecar.config, "events": {"subscriptions": [changed, SUBSCRIPTION]}})
    sidecar.reload()
    assert upstream.wait_request(HOOK, 2)  # what came meanwhile has waited in its stream


@pytest.fixture
def collector():
    with http_collector() as collector:
        yield collector


def test_spans_of_publishing_and_delivering_are_linked(start_sidecar, upstream, collector):
    config = config_for(
        upstream.url, events={"subscriptions": [SUBSCRIPTION]}, tracing={"sample": 1.0}, service="requests"
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    sidecar = start_sidecar(config, env=env)
    ask(sidecar, "POST", f"/events/{TYPE}", json={"n": 1}, headers={"traceparent": TRACEPARENT})
    request = upstream.wait_request(HOOK)
    spans = eventually(
        lambda: (found := {span.name: span for span in collector.spans}) and len(found) >= 3 and found,
        "spans",
    )
    sent, delivered, attempt = spans[f"publish {TYPE}"], spans[f"deliver {TYPE}"], spans["POST"]
    assert (sent.trace_id.hex(), sent.parent_span_id.hex()) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert delivered.trace_id != sent.trace_id
    assert [(link.trace_id, link.span_id) for link in delivered.links] == [(sent.trace_id, sent.span_id)]
    assert (attempt.trace_id, attempt.parent_span_id) == (delivered.trace_id, delivered.span_id)
    assert request["traceparent"].split(b"-")[1:3] == [
        attempt.trace_id.hex().encode(),
        attempt.span_id.hex().encode(),
    ]
    assert request["ce-traceparent"].split(b"-")[2] == sent.span_id.hex().encode()


# --- dead letters


def test_a_poisonous_event_becomes_a_dead_letter_once(start, upstream):
    sidecar = start()
    refuse(upstream)
    event_id = publish(sidecar, {"n": 1}, headers={"X-Correlation-ID": "corr-1"})
    (record,) = wait_letter(sidecar)
    assert (record["reason"], record["error"]) == ("rejected", f"422 from POST {HOOK}")
    assert (record["payload"], record["correlation_id"]) == ({"n": 1}, "corr-1")
    assert (record["idempotency_key"], record["event"]["id"]) == (event_id, event_id)
    assert [attempt["status"] for attempt in record["attempts"]] == [422]
    assert record["status"] == "pending"
    told = sidecar.wait_log(lambda line: "is a dead letter" in line.get("message", ""), "a log line")
    assert (told["correlation_id"], told["trace_id"]) == ("corr-1", record["trace_id"])
    assert ask(sidecar, "GET", f"/admin/dlq/{TYPE}/{record['id']}").json() == record
    (queue,) = ask(sidecar, "GET", "/admin/dlq").json()["items"]
    assert (queue["event_type"], queue["depth"]) == (TYPE, 1)
    assert sidecar.metric("dlq_depth", event_type=TYPE) == 1
    assert sidecar.metric("event_deliveries_total", outcome="dead_lettered") == 1
    eventually(lambda: report(sidecar)["pending"] == 0, "the event is acknowledged")
    assert len(upstream.on(HOOK)) == 1


def test_one_that_fails_again_and_again_has_every_attempt_in_its_record(start, upstream):
    sidecar = start({"max_attempts": 2})
    refuse(upstream, "500 Internal Server Error")
    publish(sidecar, {"n": 1})
    (record,) = wait_letter(sidecar)
    assert record["reason"] == "attempts_exhausted"
    assert [attempt["status"] for attempt in record["attempts"]] == [500, 500]
    assert record["first_failed_at"] < record["last_failed_at"]


def test_a_retry_delivers_and_removes_or_adds_its_attempt(start, upstream):
    sidecar = start()
    refuse(upstream)
    event_id = publish(sidecar, {"n": 1})
    (record,) = wait_letter(sidecar)
    path = f"/admin/dlq/{TYPE}/{record['id']}"
    failed = ask(sidecar, "POST", f"{path}/retry", json={"reason": "perhaps now"})
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "REDELIVERY_FAILED")
    kept = ask(sidecar, "GET", path).json()
    assert (kept["replay_count"], len(kept["attempts"])) == (1, 2)
    assert kept["attempts"][1]["reason"] == "perhaps now"
    assert kept["attempts"][1]["by"] == "127.0.0.1"
    upstream.replies.clear()
    done = ask(sidecar, "POST", f"{path}/retry", json={"reason": "fixed"})
    assert (done.status_code, done.json()) == (200, {"id": record["id"], "delivered": True})
    requests = upstream.on(HOOK)
    assert {request["idempotency-key"] for request in requests} == {event_id.encode()}
    assert requests[-1]["x-delivery-attempt"] == b"3"
    assert ask(sidecar, "GET", path).status_code == 404
    assert sidecar.metric("dlq_depth", event_type=TYPE) == 0
    line = sidecar.wait_log(
        lambda line: line["event"] == "admin change" and line.get("why") == "fixed", "the retry is logged"
    )
    assert (line["who"], line["what"]) == ("127.0.0.1", f"POST {path}/retry")
    told = [line for line in sidecar.logs() if record["id"] in json.dumps(line)]
    buried, *changes = (line["event"] for line in told)
    assert (buried, changes) == ("library", ["admin change refused", "admin change"])  # a line a change


def test_two_operators_at_once_make_one_delivery(start, upstream):
    sidecar = start()
    refuse(upstream)
    publish(sidecar, {"n": 1})
    (record,) = wait_letter(sidecar)
    path = f"/admin/dlq/{TYPE}/{record['id']}"
    gate = threading.Event()
    upstream.replies[HOOK] = Reply((gate, answer(b"ok")))
    first = []
    thread = threading.Thread(target=lambda: first.append(ask(sidecar, "POST", f"{path}/retry")))
    thread.start()
    upstream.wait_request(HOOK, 2)
    assert ask(sidecar, "GET", path).json()["status"] == "retrying"
    second = ask(sidecar, "POST", f"{path}/retry")
    removal = ask(sidecar, "DELETE", path)
    gate.set()
    thread.join(PATIENCE)
    assert (first[0].status_code, second.status_code, removal.status_code) == (200, 409, 409)
    assert len(upstream.on(HOOK)) == 2


def test_an_edited_copy_has_an_id_of_its_own(start, upstream):
    sidecar = start()
    refuse(upstream)
    event_id = publish(sidecar, {"n": 1})
    (record,) = wait_letter(sidecar)
    path = f"/admin/dlq/{TYPE}/{record['id']}"
    assert ask(sidecar, "PUT", path, json={"reason": "x"}).status_code == 400
    edited = ask(sidecar, "PUT", path, json={"payload": {"n": 2}, "reason": "typo"}).json()
    assert (edited["id"], edited["payload"]) == (record["id"], {"n": 2})
    assert edited["edits"][0]["reason"] == "typo"
    upstream.replies.clear()
    assert ask(sidecar, "POST", f"{path}/retry", json={}).status_code == 200
    request = upstream.on(HOOK)[-1]
    eventually(lambda: request.body == b'{"n":2}', "the new payload")
    assert request["ce-id"] == request["idempotency-key"] == edited["idempotency_key"].encode()
    assert edited["idempotency_key"] != event_id


def test_pages_filters_and_removal(start, upstream):
    sidecar = start()
    refuse(upstream)
    for number in range(5):
        publish(sidecar, {"n": number}, headers={"X-Correlation-ID": f"c-{number % 2}"})
        wait_letter(sidecar, number + 1)
    first = ask(sidecar, "GET", f"/admin/dlq/{TYPE}?limit=3").json()
    rest = ask(sidecar, "GET", f"/admin/dlq/{TYPE}", params={"limit": 3, "cursor": first["cursor"]}).json()
    assert [it["payload"]["n"] for it in first["items"] + rest["items"]] == [4, 3, 2, 1, 0]
    assert rest["cursor"] is None
    assert [it["payload"]["n"] for it in letters(sidecar, correlation_id="c-1")] == [3, 1]
    assert [it["payload"]["n"] for it in letters(sidecar, since=first["items"][1]["stored_at"])] == [4, 3]
    for query in ("limit=0", "limit=x", "cursor=x", "since=yesterday", "nonsense=1"):
        assert ask(sidecar, "GET", f"/admin/dlq/{TYPE}?{query}").status_code == 400
    path = f"/admin/dlq/{TYPE}/{rest['items'][0]['id']}"
    assert ask(sidecar, "DELETE", f"{path}?reason=obsolete").json()["removed"] is True
    assert ask(sidecar, "DELETE", path).status_code == 404
    assert len(letters(sidecar)) == 4
    assert ask(sidecar, "GET", "/admin/dlq/a%20b").status_code == 400
    assert letters(sidecar, "UNHEARD_OF") == []


def test_many_at_once(start, upstream):
    sidecar = start()
    refuse(upstream)
    for number in range(3):
        publish(sidecar, {"n": number})
        wait_letter(sidecar, number + 1)
    upstream.forget()
    path = f"/admin/dlq/{TYPE}/retry"
    assert ask(sidecar, "POST", path, json={"dry_run": True}).json()["would_retry"] == 3
    assert upstream.requests == []
    some = ask(sidecar, "POST", path, json={"limit": 1, "reason": "one"}).json()
    assert (some["total"], some["delivered"]) == (1, 1)
    streamed = ask(sidecar, "POST", path, json={"filter": {}}, headers={"Accept": "text/event-stream"})
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert [event.get("result") for event in events] == ["delivered", "delivered", None]
    assert events[-1]["delivered"] == 2
    line = sidecar.wait_log(lambda line: line.get("results") == {"delivered": 2}, "both are told")
    assert (line["event"], line["what"]) == ("admin change", f"POST {path}")
    bodies = [request.body for request in upstream.on(HOOK)]
    assert bodies == [b'{"n":0}', b'{"n":1}', b'{"n":2}']  # the oldest first
    for content in ({"limit": 0}, {"filter": {"x": 1}}, {"filter": 7}, {"more": 1}):
        assert ask(sidecar, "POST", path, json=content).status_code == 400


def test_many_end_early_behind_an_open_breaker(start, upstream):
    sidecar = start()
    refuse(upstream)
    for number in range(3):
        publish(sidecar, {"n": number})
        wait_letter(sidecar, number + 1)
    hold(sidecar, "forced_open")
    summary = ask(sidecar, "POST", f"/admin/dlq/{TYPE}/retry", json={}).json()
    assert (summary["tried"], summary["failed"], summary["total"]) == (1, 1, 3)
    assert "CIRCUIT_OPEN" in summary["stopped"]
