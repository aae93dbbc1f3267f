"""The example service: payments that take a moment, and a count of how often one was really executed.

Large ones take a second. It knows nothing of idempotency, on purpose: whatever reaches it is executed.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

_LARGE = 1000
_EXECUTION_SECONDS = 0.1
_LARGE_SECONDS = 1.0
_PAYMENTS = web.AppKey("payments", list[dict[str, object]])


def application() -> web.Application:
    """``POST /payments`` executes one, ``GET /payments`` lists them and counts."""
    app = web.Application()
    app[_PAYMENTS] = []
    app.router.add_post("/payments", _execute)
    app.router.add_get("/payments", _list)
    return app


async def _execute(request: web.Request) -> web.Response:
    order = await request.json()
    payments = request.app[_PAYMENTS]
    payment = {"id": f"pay_{len(payments) + 1}", "amount": order["amount"]}
    payments.append(payment)
    await asyncio.sleep(_LARGE_SECONDS if order["amount"] >= _LARGE else _EXECUTION_SECONDS)
    return web.json_response(payment, status=201, headers={"Location": f"/payments/{payment['id']}"})


async def _list(request: web.Request) -> web.Response:
    payments = request.app[_PAYMENTS]
    seen = request.headers.get("X-Correlation-ID", "none")
    return web.json_response({"executions": len(payments), "payments": payments, "correlation_id_seen": seen})


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the demo waits for it


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=_tell)
