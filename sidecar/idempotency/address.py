"""URLs of Redis: standalone, Sentinel and Cluster.

::

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
    redis+sentinel://[[USER]:PASSWORD@]SENTINEL[:PORT],SENTINEL[:PORT]/MASTER[/DB]
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]

``rediss``, ``rediss+sentinel`` and ``rediss+cluster`` are the same over TLS. Parameters, named as in
redis-py: ``db``, ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs`` (``required`` or
``none``), ``ssl_check_hostname`` (``true`` or ``false``), ``sentinel_username``, ``sentinel_password``.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

REDIS_PORT = 6379
SENTINEL_PORT = 26379

_TOPOLOGIES = ("", "sentinel", "cluster")
_TLS_WORDS = {"ssl_cert_reqs": ("required", "none"), "ssl_check_hostname": ("true", "false")}
_TLS_PARAMETERS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", *_TLS_WORDS})
_SENTINEL_PARAMETERS = frozenset({"sentinel_username", "sentinel_password"})


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Credentials(NamedTuple):
    """For AUTH. Without a user it is the ``requirepass`` of the default one."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, '…')"


class RedisAddress(NamedTuple):
    """What a URL says.

    Attributes:
        topology: Empty for a single server, else ``sentinel`` or ``cluster``.
        endpoints: The server, the sentinels, or some nodes of the cluster.
        credentials: For the servers that hold data.
        database: Number of the database.
        master: The name that sentinels know the master by.
        sentinel_credentials: For the sentinels.
        tls: Settings of TLS by parameter name; ``None`` for plain TCP.
    """

    topology: str
    endpoints: tuple[Endpoint, ...]
    credentials: Credentials | None
    database: int
    master: str
    sentinel_credentials: Credentials | None
    tls: dict[str, str] | None

    def ssl_context(self) -> ssl.SSLContext | None:
        """The context for connections; ``None`` for plain TCP.

        Raises:
            OSError: A file cannot be read.
        """
        if self.tls is None:
            return None
        context = ssl.create_default_context(cafile=self.tls.get("ssl_ca_certs"))
        if self.tls.get("ssl_check_hostname") == "false" or self.tls.get("ssl_cert_reqs") == "none":
            context.check_hostname = False
        if self.tls.get("ssl_cert_reqs") == "none":
            context.verify_mode = ssl.CERT_NONE
        if "ssl_certfile" in self.tls:
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        return context


def parse_redis_url(url: str) -> RedisAddress:
    """Read a URL.

    Raises:
        ValueError: It is none of those above. The message never holds the password.
    """
    parts = urlsplit(url)
    family, _, topology = parts.scheme.partition("+")
    if family not in ("redis", "rediss") or topology not in _TOPOLOGIES:
        raise ValueError(f"expected redis://, redis+sentinel:// or redis+cluster://, not {parts.scheme}://")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    path = [unquote(segment) for segment in parts.path.split("/") if segment]
    master = ""
    if topology == "sentinel":
        if not path:
            raise ValueError("a Sentinel URL names the master: redis+sentinel://HOST:PORT/MASTER")
        master = path.pop(0)
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    database = parameters.pop("db", None) or (path.pop(0) if path else "0")
    if path or not (database.isascii() and database.isdigit()):
        raise ValueError("the path of a Redis URL is the number of a database")
    if topology == "cluster" and int(database) != 0:
        raise ValueError("Redis Cluster has database 0 only")
    known = (_TLS_PARAMETERS if family == "rediss" else frozenset()) | (
        _SENTINEL_PARAMETERS if topology == "sentinel" else frozenset()
    )
    if unknown := sorted(parameters.keys() - known):
        raise ValueError(f"unknown parameters in a {parts.scheme}:// URL: {', '.join(unknown)}")
    port = SENTINEL_PORT if topology == "sentinel" else REDIS_PORT
    return RedisAddress(
        topology=topology,
        endpoints=_endpoints(hosts, port, several=bool(topology)),
        credentials=_credentials(*_split_userinfo(userinfo)),
        database=int(database),
        master=master,
        sentinel_credentials=_credentials(
            parameters.pop("sentinel_username", ""), parameters.pop("sentinel_password", "")
        ),
        tls=_tls(parameters) if family == "rediss" else None,
    )


def _split_userinfo(userinfo: str) -> tuple[str, str]:
    username, _, password = userinfo.partition(":")
    return unquote(username), unquote(password)


def _credentials(username: str, password: str) -> Credentials | None:
    return Credentials(username, password) if username or password else None


def _endpoints(hosts: str, default_port: int, *, several: bool) -> tuple[Endpoint, ...]:
    endpoints = tuple(_endpoint(host, default_port) for host in hosts.split(","))
    if len(endpoints) > 1 and not several:
        raise ValueError("a redis:// URL has one host; use redis+sentinel:// or redis+cluster:// for several")
    return endpoints


def _endpoint(text: str, default_port: int) -> Endpoint:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(f"expected HOST or HOST:PORT, not {text!r}")
    return Endpoint(host, default_port if port is None else port)


def _tls(parameters: dict[str, str]) -> dict[str, str]:
    for name, words in _TLS_WORDS.items():
        if name in parameters:
            parameters[name] = parameters[name].lower()
            if parameters[name] not in words:
                raise ValueError(f"{name} is {' or '.join(words)}, not {parameters[name]!r}")
    return parameters
