"""Correlation ids: what passes, and what is replaced."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.correlation import choose, is_valid

GOOD = [b"a", b"x" * 100, b"0192f0c4-7f7c-7b7e-8b7e-0123456789ab", b"AZaz09._:-", b"urn:uuid:1.2_3"]
BAD = [
    b"",
    b"x" * 101,
    b"x" * 10_240,
    b"two words",
    b"a\r\nX-Evil: 1",
    b"a\n",
    b"\x1b[31mred",
    b"a,b",
    b'"quoted"',
    b"caf\xc3\xa9",
    b"\x00",
    b"a/b",
    b"${jndi:ldap://x}",
]


@pytest.mark.parametrize("value", GOOD)
def test_a_valid_id_is_taken_as_it_is(value):
    assert choose([value]) is value


@pytest.mark.parametrize("value", BAD)
def test_anything_else_is_replaced_by_a_fresh_uuid7(value):
    fresh = choose([value])
    assert fresh != value
    assert uuid.UUID(fresh.decode()).version == 7
    assert is_valid(fresh)


@pytest.mark.parametrize("values", [[], [b"a", b"b"], [b"a", b"a"]], ids=["absent", "two", "the same twice"])
def test_exactly_one_value_counts(values):
    assert uuid.UUID(choose(values).decode()).version == 7


def test_strangers_are_not_believed():
    assert choose([b"mine"], trust=False) != b"mine"


def test_fresh_ids_differ_and_ascend():
    ids = [choose(()) for _ in range(1000)]
    assert len(set(ids)) == 1000
    times = [one[:13] for one in ids]
    assert times == sorted(times)


@given(st.binary(max_size=120))
def test_what_comes_out_is_always_valid(value):
    assert is_valid(choose([value]))
