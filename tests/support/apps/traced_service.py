"""A service of the kind that the library is made for: traced, correlated, and calling another.

``GET /work`` answers; with a ``?fail=NAME`` that it has not heard of before, 503. ``GET /relay?to=URL`` calls
URL within a span of its own and passes on what it gets.
"""

from __future__ import annotations

import os

import httpx
from opentelemetry import propagate
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sidecar.correlation import current_correlation_id
from sidecar.correlation.middleware import CorrelationMiddleware
from sidecar.tracing.library import add_span_attributes, init_tracing, with_span
from sidecar.tracing.middleware import TracingMiddleware

init_tracing(os.environ["SERVICE"])
failed: set[str] = set()


async def work(request) -> Response:
    fail = request.query_params.get("fail", "")
    if fail and fail not in failed:
        failed.add(fail)
        return PlainTextResponse("later", status_code=503)
    return PlainTextResponse("done")


async def relay(request) -> Response:
    headers = {"X-Correlation-ID": current_correlation_id()}
    async with with_span("call"), httpx.AsyncClient(trust_env=False) as client:
        propagate.inject(headers)
        answered = await client.get(request.query_params["to"], headers=headers)
        add_span_attributes({"answered": answered.status_code})
    return PlainTextResponse(answered.text, status_code=answered.status_code)


routes = [Route("/work", work), Route("/relay", relay)]
app = CorrelationMiddleware(TracingMiddleware(Starlette(routes=routes)))
