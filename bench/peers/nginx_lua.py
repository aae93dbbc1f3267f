"""nginx with Lua and Redis, doing the simple part of what a keyed request needs, where nginx has Lua.

A claim with a fingerprint, the upstream, the answer kept and replayed: two round trips, one for a replay. No
lease that is renewed, no unknown outcomes, no scope beyond ``Authorization``.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import nginx
from bench.peers.base import PeerMissing, Proxy

if TYPE_CHECKING:
    from bench.harness import Stage

_SCRIPT = Path(__file__).with_name("idempotency.lua")
_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_SERVER = """\
    location / {{ content_by_lua_file {script}; }}
    location /upstream/ {{ internal; proxy_pass http://app/; }}
"""


def _load_lua() -> str:
    """The directives that load Lua into this machine's nginx; none where it is built in, as in OpenResty."""
    command = [nginx.executable(), "-V"]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    if "lua" in built:
        return ""
    folder = re.search(r"--modules-path=(\S+)", built)
    modules = [Path(folder[1], name) for name in _MODULES] if folder else []
    if not modules or not all(module.exists() for module in modules):
        raise PeerMissing("nginx has no Lua module")
    return "\n".join(f"load_module {module};" for module in modules)


def start(stage: Stage, upstream_port: int, redis_port: int) -> Proxy:
    """Start it, with the same access log as plain nginx.

    Raises:
        PeerMissing: nginx is not on the PATH, or has no Lua.
    """
    modules = _load_lua()
    script = stage.write("idempotency.lua", _SCRIPT.read_text().replace("REDIS_PORT", str(redis_port)))
    return nginx.start(
        stage, upstream_port, name="nginx+Lua", modules=modules, server=_SERVER.format(script=script)
    )
