import asyncio

import pytest

from sidecar.spool.lazy import LazySpool
from sidecar.spool.model import SpoolUnavailable


async def test_nothing_is_made_before_it_is_needed(tmp_path):
    spool = LazySpool(tmp_path / "spool", max_queue_bytes=1024**2)
    assert not spool.exists
    assert "not open" in repr(spool)
    await spool.close()
    assert list(tmp_path.iterdir()) == []


async def test_all_get_the_same_one_until_it_is_closed(tmp_path):
    lazy = LazySpool(tmp_path / "spool", max_queue_bytes=1024**2)
    first, second = await asyncio.gather(lazy.open(), lazy.open())
    assert first is second
    await first.append("events", b"x")
    assert lazy.exists
    await lazy.close()
    await lazy.close()
    again = await lazy.open()
    assert again is not first
    assert [item.payload for item in await again.peek("events", 10)] == [b"x"]
    await lazy.close()


async def test_one_that_cannot_be_opened_is_tried_again(tmp_path):
    (tmp_path / "spool").write_text("a file")
    lazy = LazySpool(tmp_path / "spool", max_queue_bytes=1024**2)
    with pytest.raises(SpoolUnavailable):
        await lazy.open()
    (tmp_path / "spool").unlink()
    assert await lazy.open()
    await lazy.close()
