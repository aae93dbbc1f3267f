"""The sampler agrees with OpenTelemetry's, and reads its variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from sidecar.ids import random_hex
from sidecar.tracing.sampling import OFF, Sampler, sampler_for


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_the_same_traces_are_chosen_as_by_the_sdk(trace_id, ratio):
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "span").decision
    assert Sampler(ratio).samples(b"%032x" % trace_id) is (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_ratio_is_kept_on_average():
    sampler = Sampler(0.1)
    chosen = sum(sampler.samples(random_hex(16).encode()) for _ in range(20_000))
    assert 1700 < chosen < 2300


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_of_its_range_is_refused(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Sampler(ratio)


def test_only_what_never_asks_a_parent_and_never_samples_is_off():
    assert OFF.is_off
    assert not Sampler(0).is_off
    assert not Sampler(0.1, parent_based=False).is_off


def test_a_sampler_may_become_another_one_when_the_configuration_changes():
    sampler = Sampler(1.0)
    sampler.become(OFF)
    assert sampler.is_off
    assert not sampler.samples(NONE)


ALL, NONE = b"f" * 32, b"0" * 32


@pytest.mark.parametrize(
    ("environ", "parent_based", "most", "least"),
    [
        ({}, True, False, True),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, False, True, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False, False, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, True, True, True),
        ({"OTEL_TRACES_SAMPLER": "ParentBased_Always_Off "}, True, False, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, False, True, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, False, False, True),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            True,
            False,
            False,
        ),
    ],
)
def test_the_standard_variables_choose_the_sampler(environ, parent_based, most, least):
    sampler = sampler_for(0.1, environ)
    assert sampler.parent_based is parent_based
    assert sampler.samples(ALL) is most
    assert sampler.samples(NONE) is least


@pytest.mark.parametrize(
    ("ratio", "environ"),
    [
        (0, {}),
        (1, {"OTEL_SDK_DISABLED": "true"}),
        (1, {"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_SAMPLER": "always_on"}),
    ],
)
def test_tracing_is_off(ratio, environ):
    assert sampler_for(ratio, environ) is OFF


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_TRACES_SAMPLER": "parentbased_"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.5"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
    ],
)
def test_what_cannot_be_followed_is_a_mistake(environ):
    with pytest.raises(ValueError, match="OTEL_TRACES_SAMPLER"):
        sampler_for(0.1, environ)
