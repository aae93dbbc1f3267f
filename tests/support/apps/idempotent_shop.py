"""An application below ``IdempotencyMiddleware``, on the store that ``STORE_URL`` names.

A POST to ``/orders`` waits for a POST to ``/go-on`` if its query says ``?wait``; ``/executions`` counts.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sidecar import CorrelationMiddleware, IdempotencyMiddleware, RedisIdempotencyStore

if TYPE_CHECKING:
    from starlette.requests import Request

executions = 0
gate = asyncio.Event()


async def order(request: Request) -> Response:
    global executions  # noqa: PLW0603 - the application's whole state
    executions += 1
    number = executions
    size = len(await request.body())
    if "wait" in request.query_params:
        await gate.wait()
    return PlainTextResponse(f"{number}:{size}", status_code=201)


async def count(_request: Request) -> Response:
    return PlainTextResponse(str(executions))


async def go_on(_request: Request) -> Response:
    gate.set()
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/orders", order, methods=["POST"]),
        Route("/executions", count),
        Route("/go-on", go_on, methods=["POST"]),
    ]
)
app.add_middleware(
    IdempotencyMiddleware,
    store=RedisIdempotencyStore(url=os.environ["STORE_URL"], key_prefix="idempotency:shop:"),
    ttl_seconds=600,
    lease=1.0,
)
app.add_middleware(CorrelationMiddleware)
