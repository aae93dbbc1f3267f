"""Makes audited changes until it is killed, and says what it was promised: one line per durable step.

With ``drain`` in place of a run's name it only delivers what is in the spool, and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.audit.hook import AuditPlan
from sidecar.audit.service import start_audit
from sidecar.log import Log
from sidecar.settings.model import Audit
from sidecar.spool.spool import Spool

if TYPE_CHECKING:
    from sidecar.audit.recorder import Recorder

_CLIENTS = 8
_AUDIT = Audit(
    change_type="CREATED",
    request_id="response:/id",
    new_value="response:",
    changed_by_id="header:X-User-ID",
    changed_by_type="USER",
    mode="required",
)


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


async def change_forever(recorder: Recorder, run: str, client: int) -> None:
    plan = AuditPlan(_AUDIT, route="create", recorder=recorder)
    user = {b"x-user-id": str(uuid.uuid4()).encode()}
    number = 0
    while True:
        number += 1
        name = f"{run}.{client}.{number}"
        intent = plan.begin(b"POST", name.encode(), user.get)
        await plan.secure(intent)
        say("secured", name)
        await plan.settle(intent, 201, json.dumps({"id": str(uuid.uuid4()), "number": number}).encode())
        say("settled", name)


async def main(run: str, folder: Path, database: str) -> None:
    spool = Spool(folder)
    await spool.open()
    log = Log(service="test", fd=2)
    recorder = await start_audit(spool, database, log=log, rejected=lambda reason: say("rejected", reason))
    if run == "drain":
        await recorder.close(30)
        await spool.close()
        log.close()
        return
    async with asyncio.TaskGroup() as clients:
        for client in range(_CLIENTS):
            clients.create_task(change_forever(recorder, run, client))


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
