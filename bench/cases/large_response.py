"""A proxied GET whose answer is 1 MiB long: CPU per request, beside Envoy and nginx."""

from __future__ import annotations

from bench.cases.common import cpu_us, where_installed
from bench.figures import Row, ratio_row
from bench.harness import Settings, Stage, take_turns
from bench.load import Recipe, http_request
from bench.peers import envoy, nginx, sidecar
from bench.servers import upstream

_BODY_BYTES = 1 << 20
_CONNECTIONS = 16
_LIMITS = {envoy.NAME: 0.75, "nginx": None}


def run(settings: Settings) -> list[Row]:
    """Sixteen connections, so that for every proxy the bodies on the way fit into the processor's caches."""
    recipe = Recipe(http_request("GET", f"/bytes/{_BODY_BYTES}"), 200, _BODY_BYTES)
    with Stage() as stage:
        port = upstream.start(stage)
        proxies = [
            sidecar.start(stage, port),
            envoy.start(stage, port),
            *where_installed(lambda: nginx.start(stage, port)),
        ]
        turns = {proxy.name: cpu_us(proxy, recipe, settings, connections=_CONNECTIONS) for proxy in proxies}
        measured = take_turns(turns, settings.rounds)
    ours = measured.pop("sidecar")
    what = f"GET, 1 MiB, {_CONNECTIONS} connections"
    return [
        ratio_row("large-response", what, "µs", ours=ours, against=name, theirs=theirs, limit=_LIMITS[name])
        for name, theirs in measured.items()
    ]
