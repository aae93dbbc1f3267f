"""Server-sent events under the test's control: a POST to ``/send/NAME`` is one event on ``/events/NAME``.

That way a test sees whether an event is passed on before the next one exists.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

channels: defaultdict[str, asyncio.Queue[str | None]] = defaultdict(asyncio.Queue)


async def events(request: Request) -> StreamingResponse:
    queue = channels[request.path_params["channel"]]

    async def stream() -> AsyncIterator[str]:
        while (data := await queue.get()) is not None:
            yield f"data: {data}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def send(request: Request) -> Response:
    data = (await request.body()).decode()
    await channels[request.path_params["channel"]].put(data)
    return Response(status_code=204)


async def end(request: Request) -> Response:
    await channels[request.path_params["channel"]].put(None)
    return Response(status_code=204)


async def silence(request: Request) -> Response:
    """Answers once the caller has given up."""
    while not await request.is_disconnected():  # noqa: ASYNC110 - Starlette offers no event for it
        await asyncio.sleep(0.05)
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/events/{channel}", events),
        Route("/silence", silence),
        Route("/send/{channel}", send, methods=["POST"]),
        Route("/end/{channel}", end, methods=["POST"]),
    ]
)
