"""What the sidecar does beyond the W3C suite: sampling first, unsampled contexts untouched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tracing.context import admit
from sidecar.tracing.sampling import OFF, Sampler

TRACE = "12345678901234567890123456789012"
PARENT = "1234567890123456"


def parent(flags, version="00", rest=""):
    return [f"{version}-{TRACE}-{PARENT}-{flags}{rest}".encode()]


@pytest.mark.parametrize("flags", ["00", "02", "04", "fe"])
@pytest.mark.parametrize("rest", ["", "-more"])
def test_an_unsampled_context_passes_through_to_the_byte(flags, rest):
    values = parent(flags, "01", rest)
    states = [b"foo=1 ,bar=2", b"baz=3"]
    context = admit(values, states, Sampler(1.0))
    assert not context.sampled
    assert context.traceparent is values[0]
    assert context.tracestate == tuple(states)
    assert (context.trace_id, context.parent_id, context.span_id) == (TRACE, PARENT, "")


def test_a_sampled_context_becomes_the_parent_of_a_span_of_ours():
    context = admit(parent("01"), [b"foo=1"], Sampler(0.0))
    assert context.sampled
    assert context.parent_id == PARENT
    assert len(context.span_id) == 16
    span_id, sent = context.child()
    assert span_id not in {PARENT, context.span_id}
    assert sent == f"00-{TRACE}-{span_id}-01".encode()
    assert repr(context) == f"<TraceContext {TRACE} sampled=True>"


def test_unknown_flags_are_not_sent_on():
    assert admit(parent("ff"), [], Sampler(1.0)).child()[1].endswith(b"-03")


@pytest.mark.parametrize(("ratio", "sampled"), [(0.0, False), (1.0, True)])
def test_a_new_trace_is_sampled_by_ratio(ratio, sampled):
    context = admit([], [], Sampler(ratio))
    assert context.sampled is sampled
    assert context.parent_id == ""
    if not sampled:
        assert context.traceparent.decode().startswith(f"00-{context.trace_id}-")
        assert context.traceparent.endswith(b"-00")


@pytest.mark.parametrize(("ratio", "flags", "sent"), [(0.0, "01", False), (1.0, "00", True)])
def test_a_sampler_may_ignore_the_parent(ratio, flags, sent):
    context = admit(parent(flags), [], Sampler(ratio, parent_based=False))
    assert context.sampled is sent
    assert context.traceparent == parent(flags)[0]


def test_turned_off_nothing_is_sampled_and_contexts_pass():
    context = admit(parent("01"), [], OFF)
    assert not context.sampled
    assert context.traceparent == parent("01")[0]


@given(st.lists(st.binary(max_size=80), max_size=3), st.lists(st.binary(max_size=80), max_size=3))
def test_whatever_comes_in_something_valid_goes_on(traceparents, tracestates):
    context = admit(traceparents, tracestates, Sampler(0.5))
    sent = context.child()[1] if context.sampled else context.traceparent.strip(b" \t")
    assert len(sent) >= 55
    assert sent[3:35].decode() == context.trace_id
    for line in context.tracestate:
        assert b"\r" not in line
        assert b"\n" not in line
