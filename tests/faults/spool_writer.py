"""Fills a spool until it is killed, and says what it was promised: one line per durable step."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from sidecar.spool import SpoolError
from sidecar.spool.spool import Spool

_WRITERS = 8
_PAYLOAD = 300


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def append_forever(spool: Spool, writer: int) -> None:
    number = 0
    while True:
        number += 1
        name = f"{writer}.{number}"
        intent = await spool.append("intents", name.encode().ljust(_PAYLOAD), owned=True)
        say("begun", name)
        await spool.move(intent, "rows", name.encode())
        say("settled", name)


async def deliver_forever(spool: Spool) -> None:
    while True:
        items = await spool.peek("rows", 10)
        if len(items) == 10:
            for item in items:
                say("delivered", item.payload.decode())
            await spool.discard("rows", items[-1].id)
        else:
            await asyncio.sleep(0.001)


async def fill(spool: Spool) -> None:
    number = 0
    while True:
        try:
            await spool.append("rows", b"%d" % number + b" " * 10_000)
        except SpoolError as error:
            say("refused", number, type(error).__name__)
            break
        number += 1
    for _ in range(100):
        try:
            await spool.append("rows", b"%d" % number + b" " * 10_000)
        except SpoolError:
            continue
        number += 1
    say("appended", number)


async def main(folder: Path, limit: int) -> None:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    spool = Spool(folder)
    await spool.open()
    if limit:
        await fill(spool)
        await spool.close()
        return
    async with asyncio.TaskGroup() as tasks:
        for writer in range(_WRITERS):
            tasks.create_task(append_forever(spool, writer))
        tasks.create_task(deliver_forever(spool))


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
