import pytest

from sidecar.dlq.errors import RedeliveryError
from sidecar.dlq.record import Attempt, HttpRequest, Origin
from sidecar.errors import BadRequest, CircuitOpen, OutcomeUnknown, UpstreamTimeout
from sidecar.events.redelivery import Redelivery
from sidecar.events.stream import EventRefusedError, StreamError
from sidecar.events.subscription import Target
from sidecar.internal import Answer, NoSuchUpstreamError
from tests.unit.dlq.records import a_record

TYPE = "REQUEST_CREATED"
REQUEST = HttpRequest(
    method="POST", target="/pay?x=1", headers=(("Host", "pay.local"), ("X-Note", "café")), body=b"{}"
)


class World:
    """Streams, subscribers and upstreams: take note, answer as told."""

    def __init__(self):
        self.published = []
        self.delivered = []
        self.sent = []
        self.repeated = []
        self.answer = 200
        self.refusal = None
        self.routes = {"create"}
        self.targets = []
        self.redeliver = Redelivery(
            self, deliver=self.deliver, calls=self, targets=lambda event_type: self.targets
        )

    async def append(self, events):
        self.published += events
        if isinstance(self.refusal, StreamError):
            raise self.refusal
        return [self.refusal]

    async def deliver(self, event, event_type, *, upstream, path, attempt):
        self.delivered.append((event, event_type, upstream, path, attempt))
        return self._answer()

    def _answer(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def plan(self, route):
        return route if route in self.routes else None

    def parse(self, raw, length):
        return raw, length

    async def call(self, upstream, head, body, purpose, *, correlation_id):
        self.sent.append((upstream, head, body, correlation_id))
        return Answer(self._answer(), None)

    async def repeat(self, plan, head, body, purpose, *, correlation_id, claim):
        self.repeated.append((plan, head, body, correlation_id, claim))
        return self._answer()


@pytest.fixture
def world():
    return World()


def a_request(**changes):
    about = {
        "event_type": "HTTP_REQUEST",
        "origin": Origin(kind="upstream", upstream="app", route="create", claim="f" * 64),
        "data": None,
        "request": REQUEST,
        "attempts": (Attempt(at=0, error="refused"), Attempt(at=0, error="open", spent=False)),
    }
    return a_record(**(about | changes))


async def test_to_the_subscription(world):
    await world.redeliver(a_record("r-1", attempts=(Attempt(at=0, error="500"),)))
    ((event, event_type, upstream, path, attempt),) = world.delivered
    assert (event.id, event.data) == ("r-1", b'{"id":1}')
    assert (event_type, upstream, path, attempt) == (TYPE, "app", "/hooks/request-created", 2)


async def test_to_the_stream(world):
    await world.redeliver(a_record(origin=Origin(kind="stream")))
    assert [(event_type, event.id) for event_type, event in world.published] == [(TYPE, "r-1")]


async def test_to_the_upstream_by_the_route_and_with_the_same_claim(world):
    await world.redeliver(a_request())
    ((plan, (raw, length), body, correlation_id, claim),) = world.repeated
    assert (plan, length, body, correlation_id, claim) == ("create", 2, b"{}", "c-1", "f" * 64)
    assert raw == (
        b"POST /pay?x=1 HTTP/1.1\r\nHost: pay.local\r\nX-Note: caf\xe9\r\nx-delivery-attempt: 2\r\n\r\n"
    )


async def test_to_the_upstream_alone_where_the_route_is_gone(world):
    world.routes.clear()
    world.answer = 302
    await world.redeliver(a_request())
    assert [sent[0] for sent in world.sent] == ["app"]


async def test_a_request_without_a_host(world):
    await world.redeliver(a_request(request=HttpRequest(method="POST", target="/")))
    assert world.repeated[0][1][0].startswith(b"POST / HTTP/1.0\r\n")


async def test_what_a_program_has_stored_goes_to_the_subscriptions(world):
    record = a_record(origin=Origin(kind="library"), event={}, idempotency_key="k-1")
    with pytest.raises(RedeliveryError, match="nobody subscribes"):
        await world.redeliver(record)
    world.targets = [Target(event_type=TYPE, upstream=f"up-{n}", path=f"/hooks/{n}") for n in (1, 2)]
    await world.redeliver(record)
    assert [delivered[2:4] for delivered in world.delivered] == [("up-1", "/hooks/1"), ("up-2", "/hooks/2")]
    event = world.delivered[0][0]
    assert (event.id, event.attributes["source"], event.correlation_id) == ("k-1", "/requests", "c-1")


@pytest.mark.parametrize("record", [a_record(), a_request()])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (500, ("500 from POST", 500, False)),
        (404, ("404 from POST", 404, False)),
        (CircuitOpen("open"), ("CIRCUIT_OPEN: open", None, True)),
        (UpstreamTimeout("slow", sent=True), ("UPSTREAM_TIMEOUT: slow", None, False)),
        (OutcomeUnknown("nobody knows"), ("IDEMPOTENCY_OUTCOME_UNKNOWN: nobody knows", None, False)),
        (BadRequest("no host"), ("BAD_REQUEST: no host", None, False)),
        (NoSuchUpstreamError("there is no upstream"), ("there is no upstream", None, False)),
    ],
)
async def test_failures(world, record, answer, told):
    world.answer = answer
    with pytest.raises(RedeliveryError) as failed:
        await world.redeliver(record)
    text, status, down = told
    assert failed.value.message.startswith(text)
    assert (failed.value.status, failed.value.upstream_down) == (status, down)


async def test_a_subscriber_that_answers_with_a_redirection_has_not_got_it(world):
    world.answer = 302
    with pytest.raises(RedeliveryError):
        await world.redeliver(a_record())


@pytest.mark.parametrize(
    ("refusal", "down"), [(EventRefusedError("WRONGTYPE"), False), (StreamError("x"), True)]
)
async def test_streams_that_do_not_take_it(world, refusal, down):
    world.refusal = refusal
    with pytest.raises(RedeliveryError) as failed:
        await world.redeliver(a_record(origin=Origin(kind="stream")))
    assert failed.value.upstream_down == down


async def test_a_record_that_others_have_written(world):
    request = HttpRequest(method="POST", target="/", headers=(("X", "\u20ac"),))
    with pytest.raises(RedeliveryError):
        await world.redeliver(a_request(request=request))
