"""Who may call the admin port, and from where.

Programs show the token, where one is set. Browsers are the harder case: a page of any site can send requests
to ``127.0.0.1``, with no token needed where none is set. Three things stop it:

* The name in ``Host`` must be one that cannot be pointed elsewhere: an IP address, ``localhost``, or the name
  that the port is bound to. A page that rebinds its own name to 127.0.0.1 still sends that name.
  (Beyond loopback a token is required, which no browser sends by itself, and any name is accepted.)
* ``Origin``, and the browser's own word in ``Sec-Fetch-Site``, must be those of this port.
* A change must be ``application/json``, which no form can send without asking first, and is never allowed.
"""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http import HttpVersion10

from sidecar.errors import BadRequest, Forbidden, MediaTypeNotSupported, Unauthorized

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from sidecar.admin.control import Control
    from sidecar.settings.addresses import Address

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What probes and scrapers ask for, without a token."""

TOKEN_NAME: Final = "admin.token"  # noqa: S105 - what the token is called, not the token
"""Who somebody is that has shown the token."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, section 9.2.1


def guarded_by(control: Control) -> Middleware:
    """A middleware that lets through what may be asked, by the configuration in force."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        admin = control.settings.admin
        check_host(request, admin.bind)
        check_origin(request)
        if request.path not in PUBLIC:
            try:
                request["who"] = check_token(request, admin.token)
            except Unauthorized:
                if request.path == "/" and "text/html" in request.headers.get("Accept", ""):
                    return _page_that_asks()
                raise
        if request.method not in _SAFE:
            check_media_type(request)
        return await handler(request)

    return guarded


def check_host(request: web.Request, bind: Address) -> None:
    """Refuse a request for a host that this port is not.

    Raises:
        BadRequest: ``Host`` is missing (but from HTTP/1.0), or given twice.
        Forbidden: It is a name that anybody can point to this machine.
    """
    hosts = request.headers.getall("Host", [])
    if not hosts and request.version == HttpVersion10:
        return  # no browser is that old, but some probes are
    if len(hosts) != 1:
        raise BadRequest(f"expected one Host field, found {len(hosts)}")
    if not bind.is_loopback or bind.unix:
        return
    name = _name_in(hosts[0])
    if not (name == bind.host.lower() or name == "localhost" or name.endswith(".localhost") or _is_ip(name)):
        raise Forbidden("Host is no address of this port: use 127.0.0.1, [::1] or localhost")


def check_origin(request: web.Request) -> None:
    """Refuse what a page of another origin sends; following a link to the page is allowed.

    Raises:
        Forbidden: It is from another origin.
    """
    headers = request.headers
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("Host", "").lower():
        raise Forbidden("a page of another origin may not call the admin port")
    follows_link = request.method == "GET" and headers.get("Sec-Fetch-Dest") == "document"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not follows_link:
        raise Forbidden("a page of another site may not call the admin port")


def check_token(request: web.Request, token: str | None) -> str:
    """Who asks: the token's name, or the peer's address where no token is needed.

    Raises:
        Unauthorized: The token is missing or another one.
    """
    if token is None:
        return peer_of(request)
    given = request.headers.getall("Authorization", [])
    scheme, _, credentials = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("send the token of admin.token as Authorization: Bearer TOKEN")
    if not hmac.compare_digest(credentials.strip(" ").encode(errors="replace"), token.encode()):
        raise Unauthorized("this is not the token of admin.token")
    return TOKEN_NAME


def check_media_type(request: web.Request) -> None:
    """Refuse a browser's change that a form could have sent.

    Raises:
        MediaTypeNotSupported: The request has an ``Origin``, as all browsers' changes have, and is not JSON.
    """
    from_browser = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if from_browser and request.content_type != "application/json":
        raise MediaTypeNotSupported("a change from a browser needs Content-Type: application/json")


def peer_of(request: web.Request) -> str:
    """The address that the request came from; ``unix`` over a Unix socket."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else "unix"


def _page_that_asks() -> web.Response:
    """A browser has no token before a page has asked a person for it; the page itself holds no secret."""
    from sidecar.admin.page import page  # noqa: PLC0415 - most ports never show it

    return page(status=401)


def _name_in(host: str) -> str:
    """The host of a ``Host`` field in lower case, without port, brackets and closing dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


@lru_cache(maxsize=64)
def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
