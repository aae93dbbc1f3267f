"""Baggage passes while it is well formed and small; no member is ever cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tracing.baggage import MAX_BYTES, MAX_MEMBERS, valid_baggage


@pytest.mark.parametrize(
    "values",
    [
        [b"userId=alice"],
        [b"key1=value1;property1;property2, key2 = value2, key3=value3; propertyKey=propertyValue"],
        [b"userId =   alice", b"serverNode = DF%2028, isProduction = false"],
        [b"SomeKey \t = \t SomeValue \t ; \t SomeProp \t , \t SomeKey2 \t = \t SomeValue2 \t ; \t P = \t V"],
        [b"a=b=c"],
        [b"empty="],
        [b"a=1,a=2"],
        [b"k=" + b"v" * (MAX_BYTES - 2)],
        [b",".join(b"k%d=v" % number for number in range(MAX_MEMBERS))],
    ],
)
def test_what_is_well_formed_passes_unchanged(values):
    assert valid_baggage(values) == tuple(values)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([b""], ()),
        ([b"novalue"], ()),
        ([b"=x"], ()),
        ([b"good=1,bad key=2,also=3"], (b"good=1,also=3",)),
        ([b'quoted="x"', b"good=1"], (b"good=1",)),
        ([b"good=1,,also=2"], (b"good=1,also=2",)),
        ([b"a=1;=x,b=2"], (b"b=2",)),
        ([b"a=1\r\nb=2"], ()),
        ([b"a=caf\xc3\xa9,b=2"], (b"b=2",)),
    ],
)
def test_malformed_members_are_left_out(values, kept):
    assert valid_baggage(values) == kept


def test_too_many_members_lose_the_last():
    (line,) = valid_baggage([b",".join(b"k%d=v" % number for number in range(500))])
    members = line.split(b",")
    assert len(members) == MAX_MEMBERS
    assert members[-1] == b"k179=v"


def test_too_many_bytes_lose_whole_members():
    member = b"k=" + b"v" * 998
    (line,) = valid_baggage([b",".join([member] * 20)])
    assert line == b",".join([member] * 8)
    assert len(line) <= MAX_BYTES


def test_one_member_that_is_too_long_leaves_nothing():
    assert valid_baggage([b"k=" + b"v" * (MAX_BYTES - 1)]) == ()


def test_a_hostile_value_costs_no_time():
    assert valid_baggage([b"a=b" + b" ;c = " * 5000 + b'"' + b"\t" * 5000]) == ()


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
def test_what_goes_on_is_valid_again(values):
    kept = valid_baggage(values)
    assert not kept or valid_baggage(kept) == kept
