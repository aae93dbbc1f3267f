"""Processes that were not forked, but inherit descriptors, see the same numbers and keys."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sidecar.workers.commons import Commons

RECORD = "ab" * 32
JOIN = """
import pickle, sys
from sidecar.workers.commons import Commons
commons = Commons(pickle.loads(bytes.fromhex(sys.argv[1])), 1)
row = commons.board.row("permits:app", common=2, own=4)
row.cells[row.mine] += 3
row.cells[0] = 7
assert commons.sent.holds("ab" * 32, 0.0)
commons.sent.add("cd" * 32, 10.0)
commons.board.ring(0)
"""


def settings(workers=2, upstreams=1, hosts=1):
    upstream = SimpleNamespace(hosts=(None,) * hosts)
    return SimpleNamespace(workers=workers, upstreams=dict.fromkeys(range(upstreams), upstream))


@pytest.fixture
def commons():
    commons = Commons.make(settings())
    yield commons
    commons.board.close()


def test_a_process_that_joins_shares_them(commons):
    commons.sent.add(RECORD, 10.0)
    command = [sys.executable, "-c", JOIN, pickle.dumps(commons.handle).hex()]
    subprocess.run(command, pass_fds=commons.handle.descriptors, check=True, timeout=60)
    row = commons.board.row("permits:app", common=2, own=4)
    assert (row.cells[0], row.total(0)) == (7, 3)
    assert commons.sent.holds("cd" * 32, 0.0)
    commons.board.answer()
    commons.board.forget(1)
    assert row.total(0) == 0


@pytest.mark.parametrize(("upstreams", "hosts", "rows"), [(1, 1, 1024), (1000, 1, 16_000), (2, 500, 8_016)])
def test_there_is_room_for_all_upstreams_and_for_later_ones(upstreams, hosts, rows):
    commons = Commons.make(settings(upstreams=upstreams, hosts=hosts))
    assert commons.handle.board.rows == rows
    assert commons.handle.board.workers == 3
    commons.board.close()
