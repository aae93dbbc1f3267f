"""The plain proxy that a Python programmer writes first: aiohttp's server, with its client behind."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from aiohttp import web

from bench.harness import CORES, Stage, free_port, python_module
from bench.peers.base import Proxy

if TYPE_CHECKING:
    from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = ("Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade")


def _end_to_end(fields: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = fields.copy()
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    return kept


def _application(upstream: str) -> web.Application:
    async def session_of(app: web.Application) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        app["session"] = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def relay(request: web.Request) -> web.StreamResponse:
        session: aiohttp.ClientSession = request.app["session"]
        body = request.content if request.can_read_body else None
        headers = _end_to_end(request.headers)
        url = upstream + request.path_qs
        async with session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
            await response.prepare(request)
            async for block in answer.content.iter_any():
                await response.write(block)
            await response.write_eof()
        return response

    application = web.Application(client_max_size=0)
    application.on_startup.append(session_of)
    application.router.add_route("*", "/{path:.*}", relay)
    return application


def start(stage: Stage, upstream_port: int) -> Proxy:
    """Start it, on uvloop like the sidecar, without an access log."""
    port = free_port()
    command = python_module(__name__, str(port), f"http://127.0.0.1:{upstream_port}")
    process = stage.start_listening("aiohttp", command, port, cores=CORES.proxy)
    return Proxy("aiohttp", port, process)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(
        _application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None
    )
