"""The web page: one file without outside assets; browsers check its style and script by their hashes."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from sidecar.admin.control import Control

_FILE: Final = Path(__file__).with_name("index.html")
_INLINE: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


async def show(_request: web.Request, _control: Control) -> web.Response:
    """``GET /``."""
    return page()


def page(status: int = 200) -> web.Response:
    """The page; with 401 it asks for the token, which the browser keeps until its tab is closed."""
    text, policy = _read()
    return web.Response(
        status=status,
        body=text,
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": policy},
    )


@cache
def _read() -> tuple[bytes, str]:
    """The file, and the policy under which nothing but what stands in it is run, shown or asked."""
    text = _FILE.read_text(encoding="utf-8")
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {' '.join(hashes['style'])}",
            f"script-src {' '.join(hashes['script'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    )
    return text.encode(), policy
