"""The client for calls whose bytes do not matter, most of them of admin ports."""

from __future__ import annotations

from typing import Final

import httpx

from tests.support.waiting import PATIENCE

# One for all: to make one, with the certificates that it trusts, takes twenty times as long as a call. It
# keeps no connection: ports are handed out again, and what drains would have to wait for idle ones.
HTTP: Final = httpx.Client(
    timeout=PATIENCE, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
)
