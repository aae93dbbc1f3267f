"""A proxied GET with a small answer: CPU per request, beside Envoy, nginx and a plain aiohttp proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cases.common import GET_HELLO, cpu_us, where_installed
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.peers import aiohttp_proxy, envoy, nginx, sidecar
from bench.servers import upstream

if TYPE_CHECKING:
    from bench.peers.base import Proxy

_BARE_NGINX = "nginx, no access log"
_LIMITS = {envoy.NAME: 0.65, "nginx": 1.7, _BARE_NGINX: None, "aiohttp": 0.25}


def run(settings: Settings) -> list[Row]:
    """All default features on, nothing sampled, an access line for each request; Envoy writes none."""
    with Stage() as stage:
        port = upstream.start(stage)
        proxies: list[Proxy] = [
            sidecar.start(stage, port),
            envoy.start(stage, port),
            *where_installed(lambda: nginx.start(stage, port)),
            *where_installed(lambda: nginx.start(stage, port, name=_BARE_NGINX, access_log=False)),
            aiohttp_proxy.start(stage, port),
        ]
        turns = {proxy.name: cpu_us(proxy, GET_HELLO, settings) for proxy in proxies}
        measured = take_turns(turns, settings.rounds)
    ours = measured.pop("sidecar")
    what = f"GET, {GET_HELLO.body_bytes} bytes"
    return [
        ratio_row("small-get", what, "µs", ours=ours, against=name, theirs=theirs, limit=_LIMITS[name])
        for name, theirs in measured.items()
    ]
