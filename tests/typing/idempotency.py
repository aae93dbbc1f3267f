"""Checked by mypy, never run: the idempotency middleware is one for Starlette, on any of the stores."""

from __future__ import annotations

from starlette.applications import Starlette

from sidecar import IdempotencyMiddleware, MemoryIdempotencyStore, RedisIdempotencyStore

app = Starlette()
app.add_middleware(
    IdempotencyMiddleware,
    store=RedisIdempotencyStore(url="redis://localhost", key_prefix="idempotency:requests:"),
    header_name="Idempotency-Key",
    ttl_seconds=86_400,
    methods=["POST", "PUT", "PATCH"],
    on_result=print,
)
wrapped = IdempotencyMiddleware(app, MemoryIdempotencyStore(), on_duplicate="wait")
app.add_middleware(IdempotencyMiddleware, store="redis://localhost")  # type: ignore[arg-type]
