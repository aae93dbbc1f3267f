"""One piece of the audit trail's work in a process of its own; prints its figures as JSON.

``finish URL``: exchanges on a busy event loop. ``write URL``: rows from a full spool into the database.
``verify URL``: the whole chain.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from sidecar.audit.hook import AuditPlan
from sidecar.audit.record import ROWS, AuditRow
from sidecar.audit.service import start_audit
from sidecar.audit.verify import verify
from sidecar.log import Log
from sidecar.settings.model import Audit
from sidecar.spool.spool import Spool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sidecar.audit.recorder import Recorder

_UUID = "0190a0b0-0000-7000-8000-000000000000"
_RESPONSE = f'{{"id":"{_UUID}","destination":"Paris","amount":12.50,"items":[1,2,3]}}'.encode()
_SETTINGS = Audit(
    change_type="CREATED",
    request_id="response:/id",
    new_value="response:",
    changed_by_id="header:X-User-ID",
    changed_by_type="USER",
)
_BURSTS, _BURST, _PAUSE = 300, 75, 0.0145  # about 5,000 exchanges a second
_ROWS = 20_000


@asynccontextmanager
async def _recorder(spool: Spool, url: str) -> AsyncIterator[Recorder]:
    log = Log(service="bench", fd=2)
    recorder = await start_audit(spool, url, log=log, rejected=sys.exit)
    yield recorder
    await recorder.close(30)
    await spool.close()
    log.close()


async def _finish(spool: Spool, url: str) -> dict[str, float]:
    headers = {b"x-user-id": _UUID.encode()}
    async with _recorder(spool, url) as recorder:
        plan = AuditPlan(_SETTINGS, route="bench", recorder=recorder)
        spent = 0
        for _ in range(_BURSTS):
            started = time.thread_time_ns()
            for _ in range(_BURST):
                intent = plan.begin(b"POST", b"call-1", headers.get)
                plan.finish(intent, 201, _RESPONSE)
            spent += time.thread_time_ns() - started
            await asyncio.sleep(_PAUSE)
    return {"us": spent / 1000 / (_BURSTS * _BURST)}


async def _write(spool: Spool, url: str) -> dict[str, float]:
    for start in range(0, _ROWS, 500):
        await spool.append_many(ROWS, [_row(start + number) for number in range(500)])
    started = time.perf_counter()
    async with _recorder(spool, url) as recorder:
        await recorder.close(60)
        seconds = time.perf_counter() - started
        if recorder.depth():
            sys.exit(f"{recorder.depth()} rows were not written")
    return {"us": seconds * 1e6 / _ROWS}


def _row(number: int) -> bytes:
    row = AuditRow(
        id=str(uuid.uuid4()),
        request_id=_UUID,
        change_type="CREATED",
        previous_value=None,
        new_value=_RESPONSE.decode(),
        changed_by_id=_UUID,
        changed_by_type="USER",
        correlation_id=f"call-{number}",
        created_at=1_764_000_000_000_000 + number,
        outcome="ok",
    )
    return row.encode()


async def _verify(url: str) -> dict[str, float]:
    started = time.perf_counter()
    found = await verify(url)
    if found.fault:
        sys.exit(found.fault)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - started, "rows": found.rows, "peak_mib": peak}


async def _main(work: str, url: str) -> dict[str, float]:
    if work == "verify":
        return await _verify(url)
    with tempfile.TemporaryDirectory(prefix="bench-spool-") as folder:
        spool = Spool(Path(folder))
        await spool.open()
        return await (_finish if work == "finish" else _write)(spool, url)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_main(*sys.argv[1:]))))
