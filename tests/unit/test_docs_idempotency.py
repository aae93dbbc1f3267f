"""docs/idempotency.md against the code: no letter, figure, code or option is missing or made up."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from sidecar import IdempotencyMiddleware
from sidecar.idempotency import codec, key, memory, sent
from sidecar.idempotency.core import BUFFERED_BODY, KEPT_BODY, TOKEN_BYTES
from sidecar.idempotency.fingerprint import Kind
from sidecar.idempotency.policy import RELEASED_STATUSES
from sidecar.metrics.outcomes import IDEMPOTENCY_RESULTS, STORE_OPERATIONS

TEXT = (Path(__file__).parents[2] / "docs" / "idempotency.md").read_text()


def section(title):
    return TEXT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text):
    """The cells of each row of a section's tables."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def default_of(function, name):
    return inspect.signature(function).parameters[name].default


def test_the_layout_of_a_record():
    layout = rows(section("The record"))
    starts = [int(offset) for offset, *_ in layout[1:]]
    sizes = [sum(map(int, size.split(","))) for _, size, _ in layout[1:] if size]
    assert [start + size for start, size in zip(starts, sizes, strict=False)] == starts[1:]
    meaning = {int(offset): text for offset, _, text in layout[1:]}
    assert f"`{(codec.MAGIC + codec.VERSION).decode()}`" in meaning[0]
    letters = {*codec.STATES, codec.FREED}
    assert set(re.findall(r"`(.)`", meaning[3])) == {letter.decode() for letter in letters}
    losses = dict(re.findall(r"`(.)` (\w+)", meaning[6]))
    assert losses.keys() == {letter.decode() for letter in codec.LOSSES.values()}
    assert sizes[starts.index(7)] == TOKEN_BYTES
    assert codec.HEAD_BYTES in starts
    assert starts[-1] == codec.HEAD_BYTES + codec._TAIL.size


def test_figures():
    assert BUFFERED_BODY == KEPT_BODY == 1 << 20
    assert f"1 to {key.MAX_KEY_LENGTH} characters" in TEXT
    capacity = default_of(sent.SentKeys, "capacity")
    assert f"{capacity:,} keys, {capacity * 24 >> 20} MiB" in TEXT
    records = default_of(memory.MemoryIdempotencyStore, "max_records")
    bodies = default_of(memory.MemoryIdempotencyStore, "max_body_bytes")
    assert f"{records:,} records and {bodies >> 20} MiB" in TEXT
    assert f"`release_on: {sorted(RELEASED_STATUSES)}`" in TEXT


def test_every_kind_and_every_result_is_explained():
    kinds = {cell[0].strip("`").split("`")[0] for cell in rows(section("When two requests are the same"))[1:]}
    assert kinds == {kind.name.lower() for kind in Kind}
    results = [word for cells in rows(section("Figures")) for word in re.findall(r"`(\w+)`", cells[0])]
    assert sorted(results) == sorted(IDEMPOTENCY_RESULTS)
    assert all(f"`{operation}`" in section("Figures") for operation in STORE_OPERATIONS)


def test_every_option_of_the_middleware_is_named():
    options = set(inspect.signature(IdempotencyMiddleware).parameters) - {"app", "correlation_header"}
    text = section("In Python, without the sidecar")
    assert {name for name in options if not re.search(rf"\b{name}\b", text)} == set()
