"""The cases of the W3C trace-context test suite, under their own names.

https://github.com/w3c/trace-context/blob/main/test/test.py - the harness there calls a service over HTTP.
Here the headers that it would send go into the context, and those that the service would send on come out;
``tests/conformance/test_trace_context.py`` runs the same cases through the real sidecar.
"""

from __future__ import annotations

import re

import pytest

from sidecar.tracing.context import admit
from sidecar.tracing.sampling import Sampler

TRACE = "12345678901234567890123456789012"
PARENT = "1234567890123456"
VALID = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def read(traceparent, tracestates):
    """Trace id, parent id and flags, and the members of the tracestate, as a service gets them."""
    match = VALID.fullmatch(traceparent)
    assert match, f"no valid traceparent: {traceparent!r}"
    assert match[1] != "0" * 32
    members = [item.strip() for value in tracestates for item in value.split(",")]
    pairs = dict(member.split("=", 1) for member in members if member)
    return match[1], match[2], int(match[3], 16), pairs


@pytest.fixture
def exchange():
    """Sends these headers and gives what is sent on."""

    def exchange(traceparents=(), tracestates=()):
        context = admit(
            [value.encode() for value in traceparents],
            [value.encode() for value in tracestates],
            Sampler(1.0),
        )
        sent = context.child()[1] if context.sampled else context.traceparent
        return read(sent.decode(), [value.decode() for value in context.tracestate])

    return exchange


@pytest.fixture
def inherited(exchange):
    """Whether the trace of a caller goes on."""

    def inherited(traceparent):
        trace_id, parent_id, *_ = exchange([traceparent])
        assert parent_id != PARENT
        return trace_id == TRACE

    return inherited


@pytest.fixture
def states(exchange):
    """The members of the tracestate that is sent on for these lines."""
    return lambda *lines: exchange([f"00-{TRACE}-{PARENT}-00"], lines)[3]


def test_both_traceparent_and_tracestate_missing(exchange):
    exchange()


def test_traceparent_included_tracestate_missing(inherited):
    assert inherited(f"00-{TRACE}-{PARENT}-01")


def test_traceparent_duplicated(exchange):
    trace_id, *_ = exchange([f"00-{TRACE[:-1]}1-{PARENT}-01", f"00-{TRACE}-{PARENT}-01"])
    assert trace_id not in {TRACE, TRACE[:-1] + "1"}


@pytest.mark.parametrize("rest", [".", "-what-the-future-will-be-like"])
def test_traceparent_version_0x00(inherited, rest):
    assert not inherited(f"00-{TRACE}-{PARENT}-01{rest}")


@pytest.mark.parametrize(
    ("rest", "known"),
    [("", True), ("-what-the-future-will-be-like", True), (".what-the-future-will-be-like", False)],
)
def test_traceparent_version_0xcc(inherited, rest, known):
    assert inherited(f"cc-{TRACE}-{PARENT}-01{rest}") is known


def test_traceparent_version_0xff(inherited):
    assert not inherited(f"ff-{TRACE}-{PARENT}-01")


@pytest.mark.parametrize("version", [".0", "0."])
def test_traceparent_version_illegal_characters(inherited, version):
    assert not inherited(f"{version}-{TRACE}-{PARENT}-01")


@pytest.mark.parametrize("version", ["000", "0000"])
def test_traceparent_version_too_long(inherited, version):
    assert not inherited(f"{version}-{TRACE}-{PARENT}-01")


def test_traceparent_version_too_short(inherited):
    assert not inherited(f"0-{TRACE}-{PARENT}-01")


def test_traceparent_trace_id_all_zero(exchange):
    exchange([f"00-{'0' * 32}-{PARENT}-01"])


@pytest.mark.parametrize("trace_id", ["." + TRACE[1:], TRACE[:-1] + ".", TRACE[:-1] + "A"])
def test_traceparent_trace_id_illegal_characters(exchange, trace_id):
    assert exchange([f"00-{trace_id}-{PARENT}-01"])[0] != trace_id


def test_traceparent_trace_id_too_long(inherited):
    assert not inherited(f"00-{TRACE}3-{PARENT}-01")


def test_traceparent_trace_id_too_short(inherited):
    assert not inherited(f"00-{TRACE[:-1]}-{PARENT}-01")


def test_traceparent_parent_id_all_zero(inherited):
    assert not inherited(f"00-{TRACE}-{'0' * 16}-01")


@pytest.mark.parametrize("parent_id", ["." + PARENT[1:], PARENT[:-1] + "."])
def test_traceparent_parent_id_illegal_characters(inherited, parent_id):
    assert not inherited(f"00-{TRACE}-{parent_id}-01")


def test_traceparent_parent_id_too_long(inherited):
    assert not inherited(f"00-{TRACE}-{PARENT}7-01")


def test_traceparent_parent_id_too_short(inherited):
    assert not inherited(f"00-{TRACE}-{PARENT[:-1]}-01")


@pytest.mark.parametrize("flags", [".0", "0."])
def test_traceparent_trace_flags_illegal_characters(inherited, flags):
    assert not inherited(f"00-{TRACE}-{PARENT}-{flags}")


def test_traceparent_trace_flags_too_long(inherited):
    assert not inherited(f"00-{TRACE}-{PARENT}-001")


def test_traceparent_trace_flags_too_short(inherited):
    assert not inherited(f"00-{TRACE}-{PARENT}-1")


@pytest.mark.parametrize(("before", "after"), [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")])
def test_traceparent_ows_handling(inherited, before, after):
    assert inherited(f"{before}00-{TRACE}-{PARENT}-01{after}")


@pytest.mark.parametrize("state", ["foo=1", "foo=1,bar=2"])
def test_tracestate_included_traceparent_missing(exchange, state):
    assert exchange([], [state])[3] == {}


def test_tracestate_included_traceparent_included(exchange):
    trace_id, _, _, pairs = exchange([f"00-{TRACE}-{PARENT}-00"], ["foo=1,bar=2"])
    assert trace_id == TRACE
    assert pairs == {"foo": "1", "bar": "2"}


@pytest.mark.parametrize(
    ("lines", "left"), [([""], {}), (["foo=1", ""], {"foo": "1"}), (["", "foo=1"], {"foo": "1"})]
)
def test_tracestate_empty_header(states, lines, left):
    assert states(*lines) == left


def test_tracestate_multiple_headers_different_keys(states):
    assert list(states("foo=1,bar=2", "rojo=1,congo=2", "baz=3")) == ["foo", "bar", "rojo", "congo", "baz"]


@pytest.mark.parametrize("lines", [["foo=1,foo=1"], ["foo=1,foo=2"], ["foo=1", "foo=1"], ["foo=1", "foo=2"]])
def test_tracestate_duplicated_keys(states, lines):
    assert states(*lines)["foo"] in {"1", "2"}


def test_tracestate_all_allowed_characters(states):
    key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
    value = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
    assert states(f"{key}={value}") == {key: value}
    vendor = f"{key}@a-z0-9_-*/"
    assert states(f"{vendor}={value}") == {vendor: value}


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("foo=1 \t , \t bar=2, \t baz=3", {"foo": "1", "bar": "2", "baz": "3"}),
        ("foo=1\t \t,\t \tbar=2,\t \tbaz=3", {"foo": "1", "bar": "2", "baz": "3"}),
        (" foo=1", {"foo": "1"}),
        ("\tfoo=1", {"foo": "1"}),
        ("foo=1 ", {"foo": "1"}),
        ("foo=1\t", {"foo": "1"}),
        ("\t foo=1 \t", {"foo": "1"}),
    ],
)
def test_tracestate_ows_handling(states, line, left):
    assert states(line) == left


@pytest.mark.parametrize("line", ["foo =1", "FOO=1", "foo.bar=1"])
def test_tracestate_key_illegal_characters(states, line):
    assert states(line) == {}


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("foo@=1,bar=2", {"foo@": "1", "bar": "2"}),
        ("@foo=1,bar=2", {}),
        ("foo@@bar=1,bar=2", {"foo@@bar": "1", "bar": "2"}),
        ("foo@bar@baz=1,bar=2", {"foo@bar@baz": "1", "bar": "2"}),
    ],
)
def test_tracestate_key_illegal_vendor_format(states, line, left):
    assert states(line) == left


@pytest.mark.parametrize(("count", "kept"), [(32, 32), (33, 0)])
def test_tracestate_member_count_limit(states, count, kept):
    members = [f"bar{number:02}={number:02}" for number in range(1, count + 1)]
    assert len(states(*(",".join(members[at : at + 10]) for at in range(0, count, 10)))) == kept


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("z" * 256, True),
        ("z" * 257, False),
        ("t" * 241 + "@" + "v" * 14, True),
        ("t" * 242 + "@v", True),
        ("t@" + "v" * 15, True),
    ],
)
def test_tracestate_key_length_limit(states, key, known):
    assert states("foo=1", f"{key}=1") == ({"foo": "1", key: "1"} if known else {})


@pytest.mark.parametrize("line", ["foo=bar=baz", "foo=,bar=3"])
def test_tracestate_value_illegal_characters(states, line):
    assert states(line) == {}


def test_multiple_requests_with_valid_traceparent(exchange):
    seen = [exchange([f"00-{TRACE}-{PARENT}-01"]) for _ in range(3)]
    assert {trace_id for trace_id, *_ in seen} == {TRACE}
    assert len({parent_id for _, parent_id, *_ in seen}) == 3


def test_multiple_requests_without_traceparent(exchange):
    assert len({parent_id for _, parent_id, *_ in (exchange() for _ in range(3))}) == 3


def test_multiple_requests_with_illegal_traceparent(exchange):
    seen = [exchange([f"00-{'0' * 32}-{PARENT}-01"]) for _ in range(3)]
    assert len({parent_id for _, parent_id, *_ in seen}) == 3


def test_propagates_random_flag(exchange):
    *_, flags, _ = exchange([f"00-{TRACE}-{PARENT}-03"])
    assert flags == 0x03
