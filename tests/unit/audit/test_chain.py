from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.audit.chain import GENESIS, ChainCheck, Mark, canonical_form, row_hash

FIELDS = [
    *("7", "ab" * 32, "0190a0b0-0000-7000-8000-000000000001", "0190a0b0-0000-7000-8000-000000000002"),
    *("CREATED", None, '{"name": "Ærø"}', "0190a0b0-0000-7000-8000-000000000003", "USER", "corr-1"),
    *("1764000000123457", "ok"),
]


START = Mark(0, GENESIS)


def chain(length: int, start: Mark = START) -> list[list[str | None]]:
    """Records of a well-made chain."""
    records: list[list[str | None]] = []
    last = start
    for _ in range(length):
        fields = [str(last.seq + 1), last.hash, f"id-{last.seq + 1}", *FIELDS[3:]]
        last = Mark(last.seq + 1, row_hash(fields))
        records.append([*fields, last.hash])
    return records


def head_of(records: list[list[str | None]]) -> Mark:
    return Mark(int(records[-1][0] or 0), records[-1][12] or "")


def check(records, *, base=START, head=None, anchors=()) -> str:
    following = ChainCheck(base, anchors)
    fault = following.begin()
    for record in records:
        fault = fault or following.follow(record)
    return fault or following.end(head or head_of(records))


def test_the_canonical_form_is_what_the_documentation_says():
    form = canonical_form(FIELDS).decode()
    assert form == (
        f"request_changes/1,1:7,64:{'ab' * 32},36:0190a0b0-0000-7000-8000-000000000001,"
        '36:0190a0b0-0000-7000-8000-000000000002,7:CREATED,-,15:{"name": "Ærø"},'
        "36:0190a0b0-0000-7000-8000-000000000003,4:USER,6:corr-1,16:1764000000123457,2:ok,"
    )
    assert row_hash(FIELDS) == hashlib.sha256(form.encode()).hexdigest()


@settings(max_examples=200, deadline=None)
@given(*[st.lists(st.none() | st.text("0-:,é", max_size=4), min_size=12, max_size=12)] * 2)
def test_different_rows_have_different_forms(one, other):
    assert (canonical_form(one) == canonical_form(other)) == (one == other)


def test_a_chain_as_it_was_written_is_whole():
    assert check(chain(5)) == ""


def test_an_empty_chain_is_whole():
    assert check([], head=Mark(0, GENESIS)) == ""


@pytest.mark.parametrize("column", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
def test_a_changed_column_is_found(column):
    records = chain(5)
    head = head_of(records)
    records[2][column] = "changed"
    assert "row 3" in check(records, head=head)
    assert "was changed" in check(records, head=head)


def test_a_removed_row_is_found():
    records = chain(5)
    del records[2]
    assert check(records) == "row 3 is missing: after row 2 comes row 4 (id id-4)"


def test_removed_rows_at_either_end_are_found():
    records = chain(5)
    assert check(records[2:]) == "rows 1 to 2 are missing: after row 0 comes row 3 (id id-3)"
    assert check(records[:3], head=head_of(records)) == "rows 4 to 5 are missing: the trail ends with row 3"


def test_exchanged_rows_are_found():
    records = chain(5)
    records[1][0], records[3][0] = records[3][0], records[1][0]
    records.sort(key=lambda record: int(record[0]))
    assert (
        check(records)
        == "row 2 (id id-4) is out of order: it was not written after the row that stands before it"
    )


def test_a_row_that_stands_twice_is_found():
    records = chain(3)
    assert check([*records, records[2]]) == "row 3 (id id-3) stands twice"


def test_a_rewritten_chain_is_whole_but_for_who_noted_a_hash():
    records = chain(5)
    noted = head_of(records[:3])
    forged = chain(1)
    forged[0][6] = "forged"
    forged[0][12] = row_hash(forged[0][:12])
    forged += chain(4, head_of(forged))
    assert check(forged) == ""
    assert "row 3 (id id-3) was replaced" in check(forged, anchors=[noted])
    assert check(records, anchors=[noted, head_of(records)]) == ""


def test_a_chain_cut_short_with_its_record_is_found_by_who_noted_a_hash():
    records = chain(5)
    assert check(records[:3]) == ""
    assert (
        check(records[:3], anchors=[head_of(records)])
        == "row 5 is missing: it was noted, and the trail ends with row 3"
    )


def test_rows_beyond_the_recorded_end_are_found():
    records = chain(5)
    assert "is the last one, but the database recorded" in check(records, head=head_of(records[:4]))


def test_a_chain_whose_old_rows_were_retired_is_whole():
    records = chain(5)
    base = head_of(records[:2])
    assert check(records[2:], base=base) == ""
    assert check(records[2:], base=base, anchors=[base, head_of(records[:4])]) == ""


def test_a_noted_row_that_was_retired_cannot_be_compared():
    records = chain(5)
    base = head_of(records[:2])
    assert "row 1 cannot be compared" in check(records[2:], base=base, anchors=[head_of(records[:1])])
    assert "row 2, the last one retired, was replaced" in check(
        records[2:], base=base, anchors=[Mark(2, GENESIS)]
    )


def test_a_chain_begins_with_the_hash_that_all_chains_begin_with():
    base = Mark(0, "1" * 64)
    assert "does not begin as a trail does" in check(chain(2, base), base=base)


def test_a_mark_reads_as_it_is_given():
    assert str(Mark(3, "ab")) == "3:ab"
