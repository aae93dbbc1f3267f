"""The spool on a real file: order, what survives, bounds, and what it says when the disk refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import asynccontextmanager

import pytest

from sidecar.clock import ManualClock
from sidecar.spool import Item, QueueStats, SpoolFull, SpoolUnavailable
from sidecar.spool.file import SpoolFile
from sidecar.spool.spool import Spool, _Call


@asynccontextmanager
async def opened(folder, **options):
    spool = Spool(folder, **options)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


def payloads(items: list[Item]) -> list[bytes]:
    return [item.payload for item in items]


async def test_items_are_read_in_the_order_of_appending(tmp_path):
    async with opened(tmp_path) as spool:
        ids = [await spool.append("rows", bytes([number])) for number in range(5)]
        assert ids == sorted(ids)
        assert payloads(await spool.peek("rows", 3)) == [b"\0", b"\1", b"\2"]
        assert payloads(await spool.peek("rows", 3, after=ids[2])) == [b"\3", b"\4"]


async def test_queues_are_apart(tmp_path):
    async with opened(tmp_path) as spool:
        first = await spool.append("rows", b"row")
        await spool.append("events", b"event")
        assert await spool.discard("rows", first + 10) == 1
        assert payloads(await spool.peek("events", 10)) == [b"event"]
        assert await spool.peek("rows", 10) == []


async def test_discarding_stops_at_the_given_item(tmp_path):
    async with opened(tmp_path) as spool:
        await spool.append_many("rows", [b"a", b"b", b"c"])
        first, second, _ = await spool.peek("rows", 10)
        assert await spool.discard("rows", second.id) == 2
        assert await spool.discard("rows", first.id) == 0
        assert payloads(await spool.peek("rows", 10)) == [b"c"]


async def test_ids_are_never_used_twice_not_even_after_a_restart(tmp_path):
    async with opened(tmp_path) as spool:
        last = await spool.append_many("rows", [b"a", b"b"])
        await spool.discard("rows", last)
    async with opened(tmp_path) as spool:
        assert await spool.append("rows", b"c") > last


async def test_what_was_appended_is_there_after_a_restart(tmp_path):
    async with opened(tmp_path) as spool:
        await spool.append_many("rows", [b"a", b"", b"c" * 100_000])
    async with opened(tmp_path) as spool:
        assert payloads(await spool.peek("rows", 10)) == [b"a", b"", b"c" * 100_000]


async def test_moving_replaces_the_item_at_the_end_of_the_other_queue(tmp_path):
    async with opened(tmp_path) as spool:
        intent = await spool.append("intents", b"intent", owned=True)
        await spool.append("rows", b"earlier")
        moved = await spool.move(intent, "rows", b"settled")
        assert moved is not None
        assert moved > intent
        assert await spool.peek("intents", 10) == []
        assert payloads(await spool.peek("rows", 10)) == [b"earlier", b"settled"]


async def test_an_item_is_moved_once(tmp_path):
    async with opened(tmp_path) as spool:
        intent = await spool.append("intents", b"intent")
        assert await spool.move(intent, "rows", b"settled")
        assert await spool.move(intent, "rows", b"settled") is None
        assert payloads(await spool.peek("rows", 10)) == [b"settled"]


async def test_removing_one_item(tmp_path):
    async with opened(tmp_path) as spool:
        await spool.append_many("rows", [b"a", b"b", b"c"])
        _, middle, _ = await spool.peek("rows", 10)
        assert await spool.remove(middle.id) is True
        assert await spool.remove(middle.id) is False
        assert payloads(await spool.peek("rows", 10)) == [b"a", b"c"]


async def test_figures_follow_every_change(tmp_path):
    clock = ManualClock(wall=1000.0)
    async with opened(tmp_path, clock=clock) as spool:
        assert (spool.depth("rows"), spool.oldest_age("rows")) == (0, 0.0)
        first = await spool.append("rows", b"12345")
        clock.advance(3)
        await spool.append("rows", b"678")
        clock.advance(4)
        assert await spool.stats("rows") == QueueStats(depth=2, bytes=8, oldest_at=1000.0)
        assert (spool.depth("rows"), spool.oldest_age("rows")) == (2, 7.0)
        await spool.discard("rows", first)
        assert (spool.depth("rows"), spool.oldest_age("rows")) == (1, 4.0)
    async with opened(tmp_path, clock=clock) as spool:
        assert await spool.stats("rows") == QueueStats(depth=1, bytes=3, oldest_at=1003.0)
        assert await spool.stats("other") == QueueStats()


async def test_age_does_not_go_below_zero_when_the_wall_clock_was_set_back(tmp_path):
    async with opened(tmp_path, clock=ManualClock(wall=1000.0)) as spool:
        await spool.append("rows", b"row")
    async with opened(tmp_path, clock=ManualClock(wall=900.0)) as spool:
        await spool.stats("rows")
        assert spool.oldest_age("rows") == 0.0


async def test_a_full_queue_refuses_without_touching_the_others(tmp_path):
    async with opened(tmp_path, max_queue_bytes=10) as spool:
        await spool.append("rows", b"12345678")
        results = await asyncio.gather(
            spool.append("rows", b"too long"), spool.append("events", b"event"), return_exceptions=True
        )
        assert isinstance(results[0], SpoolFull)
        assert "holds 8 of at most 10 bytes" in str(results[0])
        assert payloads(await spool.peek("events", 1)) == [b"event"]
        await spool.append("rows", b"12")


async def test_many_are_appended_together_or_not_at_all(tmp_path):
    async with opened(tmp_path, max_queue_bytes=10) as spool:
        with pytest.raises(SpoolFull):
            await spool.append_many("rows", [b"12345", b"12345", b"1"])
        assert await spool.peek("rows", 10) == []


async def test_moving_is_not_refused_for_want_of_room(tmp_path):
    async with opened(tmp_path, max_queue_bytes=4) as spool:
        intent = await spool.append("intents", b"1234")
        await spool.append("rows", b"1234")
        await spool.move(intent, "rows", b"longer than the bound")
        assert (await spool.stats("rows")).bytes == 25


async def test_calls_of_one_moment_share_transactions(tmp_path, monkeypatch):
    commits = []
    commit = SpoolFile.commit
    monkeypatch.setattr(SpoolFile, "commit", lambda self: (commits.append(1), commit(self))[1])
    async with opened(tmp_path) as spool:
        ids = await asyncio.gather(*(spool.append("rows", b"%d" % number) for number in range(200)))
        assert ids == sorted(ids)
        assert len(await spool.peek("rows", 1000)) == 200
    assert len(commits) < 20


async def test_a_caller_that_gave_up_does_not_disturb_the_others(tmp_path):
    async with opened(tmp_path) as spool:
        impatient = asyncio.ensure_future(spool.append("rows", b"a"))
        patient = asyncio.ensure_future(spool.append("rows", b"b"))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        assert payloads(await spool.peek("rows", 10))[-1] == b"b"


async def test_a_full_disk_has_its_own_error_and_is_survived(tmp_path, monkeypatch):
    prepare = SpoolFile._prepare

    def small(self):
        prepare(self)
        self._db.execute("PRAGMA max_page_count = 30")

    monkeypatch.setattr(SpoolFile, "_prepare", small)
    async with opened(tmp_path) as spool:
        await spool.append("rows", b"kept")
        with pytest.raises(SpoolFull, match="disk under the spool is full"):
            await spool.append("rows", b"x" * 1_000_000)
        assert payloads(await spool.peek("rows", 10)) == [b"kept"]
        await spool.append("rows", b"small")
        assert (await spool.stats("rows")).depth == 2


async def test_an_unwritable_folder_is_told_at_opening(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    spool = Spool(tmp_path / "taken" / "spool")
    with pytest.raises(SpoolUnavailable, match="spool cannot be used"):
        await spool.open()


async def test_a_file_that_is_no_spool_is_told_at_opening(tmp_path):
    (tmp_path / "spool.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SpoolUnavailable, match="not a database"):
        await Spool(tmp_path).open()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(SpoolUnavailable, match="format 2"):
        await Spool(tmp_path).open()


async def test_a_locked_file_is_an_error_not_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.spool.file._BUSY_MILLISECONDS", 10)
    async with opened(tmp_path) as spool:
        other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable, match="locked"):
            await spool.append("rows", b"row")
        other.execute("ROLLBACK")
        other.close()
        await spool.append("rows", b"row")
        assert (await spool.stats("rows")).depth == 1


async def test_a_closed_spool_says_so(tmp_path):
    spool = Spool(tmp_path)
    with pytest.raises(SpoolUnavailable, match="not open"):
        await spool.append("rows", b"row")
    await spool.open()
    assert "open" in repr(spool)
    await spool.close()
    await spool.close()
    with pytest.raises(SpoolUnavailable, match="not open"):
        await spool.append("rows", b"row")


async def test_closing_finishes_what_was_asked_before(tmp_path):
    spool = Spool(tmp_path)
    await spool.open()
    asked = asyncio.ensure_future(spool.append("rows", b"row"))
    await asyncio.sleep(0)
    await spool.close()
    assert await asked == 1


async def test_payloads_are_for_the_owner_only(tmp_path):
    async with opened(tmp_path / "new" / "spool") as spool:
        await spool.append("rows", b"row")
        for path in (tmp_path / "new" / "spool").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE((tmp_path / "new" / "spool").stat().st_mode) == 0o700


async def test_two_workers_share_the_file_and_one_of_them_delivers(tmp_path):
    async with opened(tmp_path) as first, opened(tmp_path) as second:
        await asyncio.gather(*(spool.append("rows", b"row") for spool in (first, second) for _ in range(50)))
        assert (await first.stats("rows")).depth == (await second.stats("rows")).depth == 100
        assert first.lead("rows") is True
        assert second.lead("rows") is False
        assert second.lead("events") is True
        await first.close()
        assert second.lead("rows") is True


async def test_what_a_living_process_owns_is_no_orphan(tmp_path):
    async with opened(tmp_path) as first:
        await first.append("intents", b"mine", owned=True)
        async with opened(tmp_path) as second:
            await second.append("intents", b"theirs", owned=True)
            await second.append("intents", b"nobody's")
            assert await first.orphans("intents", 10) == []
        assert payloads(await first.orphans("intents", 10)) == [b"theirs"]


async def test_a_group_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.spool.spool._MAX_GROUP", 2)
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.append("rows", b"%d" % number) for number in range(7)))
        assert payloads(await spool.peek("rows", 10)) == [b"%d" % number for number in range(7)]


async def test_a_folder_that_was_taken_away_is_told(tmp_path):
    async with opened(tmp_path / "spool") as spool:
        (tmp_path / "spool").rename(tmp_path / "elsewhere")
        with pytest.raises(SpoolUnavailable, match="No such file"):
            spool.lead("rows")


async def test_a_file_that_cannot_be_closed_is_logged(tmp_path, monkeypatch, caplog):
    def fail(_self):
        raise sqlite3.OperationalError("disk I/O error")

    spool = Spool(tmp_path)
    await spool.open()
    monkeypatch.setattr(SpoolFile, "close", fail)
    await spool.close()
    assert "closing the spool file failed" in caplog.text


def test_a_loop_that_ends_first_does_not_hang_the_thread(tmp_path, caplog):
    spool = Spool(tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(spool.open())
    thread = spool._thread
    future = loop.create_future()
    loop.close()
    spool._calls.put(_Call(lambda file: file.peek("rows", 1, 0), future, writes=False))
    spool._calls.put(None)
    thread.join(10)
    assert not thread.is_alive()
    assert "the event loop has closed before 1 spool calls were answered" in caplog.text
    spool._owner.leave()
