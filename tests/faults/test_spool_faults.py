"""What the spool promises a process that is killed at any point, or whose disk is full."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from sidecar.spool.spool import Spool

WRITER = Path(__file__).with_name("spool_writer.py")


def run_writer(folder: Path, *, limit: int = 0, kill_after_lines: int = 0) -> list[list[str]]:
    """Run the writer to its end, or kill it after so many lines; the whole lines that it said."""
    with subprocess.Popen([sys.executable, WRITER, folder, str(limit)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(kill_after_lines)]
        if kill_after_lines:
            process.kill()
        said += process.stdout.readlines()
    return [line.decode().split() for line in said if line.endswith(b"\n")]


async def remains(folder: Path) -> tuple[list[str], list[str], int]:
    """Names in the rows and in the orphaned intents, and the depth that the spool tells of the rows."""
    spool = Spool(folder)
    await spool.open()
    rows = [item.payload.split()[0].decode() for item in await spool.peek("rows", 1_000_000)]
    orphans = [item.payload.split()[0].decode() for item in await spool.orphans("intents", 1_000_000)]
    for item in await spool.orphans("intents", 1_000_000):
        await spool.remove(item.id)
    depth = (await spool.stats("rows")).depth
    await spool.close()
    return rows, orphans, depth


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_point_the_spool_has_all_that_was_promised(tmp_path, seed):
    chance = random.Random(seed)
    said: list[list[str]] = []
    said += run_writer(tmp_path, kill_after_lines=chance.randrange(20, 400))
    rows, orphans, depth = asyncio.run(remains(tmp_path))

    told = {
        word: [name for said_word, name in said if said_word == word]
        for word in ("begun", "settled", "delivered")
    }
    assert depth == len(rows)
    assert max(Counter(rows).values(), default=1) == 1
    # A begun item is found again: as an intent without outcome, as a row, or it was delivered.
    assert set(told["begun"]) <= set(rows) | set(orphans) | set(told["delivered"])
    assert set(told["settled"]) <= set(rows) | set(told["delivered"])
    assert not set(rows) & set(orphans)
    for writer in range(8):  # each writer's rows stand in its own order
        numbers = [int(name.split(".")[1]) for name in rows if name.startswith(f"{writer}.")]
        assert numbers == sorted(numbers)


def test_a_full_disk_is_refused_and_loses_nothing_that_was_accepted(tmp_path):
    said = run_writer(tmp_path, limit=4_000_000)
    assert said[0][0] == "refused"
    assert said[0][2] in ("SpoolFull", "SpoolUnavailable")
    appended = int(said[-1][1])
    rows, _, depth = asyncio.run(remains(tmp_path))
    assert rows == [str(number) for number in range(appended)]
    assert depth == appended > 100
