"""Clients of Redis for what lies beside the data path: dead letters and events."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

RedisClient = Any
"""``redis.asyncio.Redis`` or ``RedisCluster``, which have no base in common that types their commands."""

_SENTINEL_PORT = 26379
_REDIS_PORT = 6379


def open_redis(url: str, *, timeout: float = 1.0) -> RedisClient:
    """A client for a store's URL.

    ``redis://``, ``redis+sentinel://HOST,HOST/MASTER`` or ``redis+cluster://HOST,HOST``, and ``rediss`` in
    place of ``redis`` for TLS. Nothing connects before the first command. A command whose connection broke is
    sent a second time, on a new one, and no more often: callers have their own patience.

    Args:
        url: Where Redis is.
        timeout: Seconds that connecting, and the wait for an answer, may take.

    Raises:
        ValueError: The URL is none of these. The message never holds the password.
    """
    parts = urlsplit(url)
    family, _, topology = parts.scheme.partition("+")
    if family not in ("redis", "rediss") or topology not in ("", "sentinel", "cluster"):
        raise ValueError(f"expected redis://, redis+sentinel:// or redis+cluster://, not {parts.scheme}://")
    options = _options(timeout)
    if topology == "sentinel":
        return _behind_sentinels(parts, options, tls=family == "rediss")
    if topology == "cluster":
        return _cluster(parts, options, tls=family == "rediss")
    from redis.asyncio import ConnectionPool, Redis  # noqa: PLC0415 - a driver is loaded where it is used

    from sidecar.dlq.packing import PackedConnection, PackedSSLConnection  # noqa: PLC0415

    pool = ConnectionPool.from_url(url, **options)
    pool.connection_class = PackedSSLConnection if family == "rediss" else PackedConnection
    return Redis.from_pool(pool)


def _options(timeout: float) -> dict[str, Any]:
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import ConstantBackoff  # noqa: PLC0415

    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(ConstantBackoff(0.01), 1),
        "protocol": 2,  # its answers have one shape in all versions of redis-py
    }


def _behind_sentinels(parts: SplitResult, options: dict[str, Any], *, tls: bool) -> RedisClient:
    from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415

    master, _, database = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("a Sentinel URL names the master: redis+sentinel://HOST:PORT/MASTER")
    query: dict[str, Any] = dict(parse_qsl(parts.query))
    guard = {
        "username": query.pop("sentinel_username", None),
        "password": query.pop("sentinel_password", None),
    }
    guard = {name: value for name, value in guard.items() if value}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        _hosts(parts, _SENTINEL_PORT), sentinel_kwargs={**options, **guard, "ssl": tls}, ssl=tls, **options
    )
    return sentinels.master_for(master, db=int(database or 0), **_credentials(parts), **query)


def _cluster(parts: SplitResult, options: dict[str, Any], *, tls: bool) -> RedisClient:
    from redis.asyncio.cluster import ClusterNode, RedisCluster  # noqa: PLC0415

    nodes = [ClusterNode(host, port) for host, port in _hosts(parts, _REDIS_PORT)]
    query: dict[str, Any] = dict(parse_qsl(parts.query))
    return RedisCluster(startup_nodes=nodes, ssl=tls, **_credentials(parts), **options, **query)


def _credentials(parts: SplitResult) -> dict[str, Any]:
    userinfo = parts.netloc.rpartition("@")[0]
    username, _, password = userinfo.partition(":")
    given = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    hosts = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(urlunsplit(("", text, "", "", "")))
        if not one.hostname:
            raise ValueError(f"expected HOST or HOST:PORT, not {text!r}")
        hosts.append((one.hostname, one.port or default_port))
    return hosts
