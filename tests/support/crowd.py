"""Many clients at once, on one event loop."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.support.waiting import PATIENCE


class Answer(NamedTuple):
    """What one request got.

    Attributes:
        status: 0 where the connection broke.
        fields: By lower-case name; the last one of each.
        body: Whole.
    """

    status: int
    fields: dict[bytes, bytes]
    body: bytes


BROKEN = Answer(0, {}, b"")


def crowd(port: int, request: bytes, *, clients: int, each: int = 1) -> list[Answer]:
    """Let ``clients`` connect first and then, all at once, send ``request``, each ``each`` times in a row."""
    return asyncio.run(asyncio.wait_for(_crowd(port, request, clients, each), PATIENCE * 4))


async def _crowd(port: int, request: bytes, clients: int, each: int) -> list[Answer]:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
    try:
        answers = await asyncio.gather(*(_client(request, each, *pair) for pair in connections))
    finally:
        for _, writer in connections:
            writer.close()
    return [answer for many in answers for answer in many]


async def _client(
    request: bytes, each: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> list[Answer]:
    answers = []
    for _ in range(each):
        writer.write(request)
        answers.append(await read_answer(reader))
        if not answers[-1].status:
            break
    return answers


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer, a chunked body as it came; :data:`BROKEN` where the connection ends too early."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        if b"content-length" in fields:
            body = await reader.readexactly(int(fields[b"content-length"]))
        elif b"transfer-encoding" in fields:
            body = await reader.readuntil(b"0\r\n\r\n")
        else:
            body = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError):
        return BROKEN
    return Answer(int(first.split()[1]), fields, body)
