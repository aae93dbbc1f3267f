import pytest

from sidecar.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from sidecar.idempotency.policy import RoutePolicy

POLICY = RoutePolicy(service="shop", route="orders")


def test_which_methods_it_applies_to():
    assert POLICY.applies(b"POST")
    assert POLICY.applies(b"PUT")
    assert POLICY.applies(b"PATCH")
    assert not POLICY.applies(b"GET")
    assert not POLICY.applies(b"DELETE")
    assert not RoutePolicy(service="shop", route="orders", enabled=False).applies(b"POST")


def test_a_key_is_optional_unless_required():
    assert POLICY.read_key([]) is None
    assert POLICY.read_key([b'"k"']) == b"k"
    required = RoutePolicy(service="shop", route="orders", required=True)
    with pytest.raises(IdempotencyKeyMissing):
        required.read_key([])
    with pytest.raises(IdempotencyKeyInvalid):
        required.read_key([b""])


def test_ids_differ_by_service_route_caller_and_key():
    ids = {
        policy.record_id(caller, key)
        for policy in (
            POLICY,
            RoutePolicy(service="shop2", route="orders"),
            RoutePolicy(service="shop", route="orders2"),
            RoutePolicy(service="sho", route="porders"),
        )
        for caller in ([[]], [[b""]], [[b"a"]], [[b"a", b"b"]], [[b"ab"]], [[b"a"], []], [[], [b"a"]])
        for key in (b"k", b"kk", b"bk")
    }
    assert len(ids) == 4 * 7 * 3
    assert all(len(record_id) == 64 for record_id in ids)


def test_an_id_gives_nothing_away():
    assert "secret" not in POLICY.record_id([[b"secret"]], b"secret")


def test_which_statuses_are_kept():
    assert all(POLICY.keeps(status) for status in (200, 201, 204, 302, 400, 404, 409, 422, 500, 502, 504))
    assert not any(POLICY.keeps(status) for status in (401, 403, 407, 408, 421, 425, 429, 503))


def test_what_is_never_replayed():
    headers = [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"2"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Set-Cookie", b"a=1"),
        (b"WWW-Authenticate", b"Basic"),
        (b"Date", b"now"),
        (b"Age", b"3"),
        (b"Traceparent", b"00-"),
        (b"X-Correlation-ID", b"c"),
        (b"X-Request-Id", b"r"),
        (b"X-Idempotent-Replayed", b"true"),
        (b"Location", b"/1"),
        (b"location", b"/2"),
    ]
    kept = ((b"Content-Type", b"text/plain"), (b"Location", b"/1"), (b"location", b"/2"))
    assert POLICY.replayable(headers) == kept


def test_cookies_are_replayed_where_the_route_says_so():
    policy = RoutePolicy(service="shop", route="orders", replay_set_cookie=True)
    assert policy.replayable([(b"Set-Cookie", b"a=1")]) == ((b"Set-Cookie", b"a=1"),)


def test_the_configured_correlation_header_is_not_replayed():
    policy = RoutePolicy(service="shop", route="orders", correlation_header=b"x-trace")
    assert policy.replayable([(b"X-Trace", b"1"), (b"X-Correlation-ID", b"2")]) == (
        (b"X-Correlation-ID", b"2"),
    )


class TestLines:
    LINES = (b"Content-Type: text/plain", b"Date: now", b"X-A:\t1 ")

    @pytest.fixture
    def policy(self):
        return RoutePolicy(service="shop", route="orders")

    def ask(self, policy, *lines):
        return policy.replayable_lines(b"\r\n".join(lines) + b"\r\n", lines)

    def test_they_are_taken_apart(self, policy):
        for _ in range(2):
            assert self.ask(policy, *self.LINES) == ((b"Content-Type", b"text/plain"), (b"X-A", b"1"))

    def test_the_same_lines_give_the_same_object(self, policy):
        assert self.ask(policy, *self.LINES) is self.ask(policy, *self.LINES)

    @pytest.mark.parametrize("line", [b"set-COOKIE: session=secret", b"X-A: " + b"a" * 2048])
    def test_neither_cookies_nor_long_ones_are_remembered(self, policy, line):
        self.ask(policy, *self.LINES, line)
        assert policy._recent == {}

    def test_what_is_remembered_is_bounded(self, policy):
        for number in range(200):
            self.ask(policy, b"X-A: %d" % number)
            assert len(policy._recent) <= 64
