"""Settings of a Redis that weaken the guarantee, read from what INFO says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST_REDIS = (6, 2)


def read_info(reply: bytes) -> dict[str, str]:
    """The fields of an INFO reply."""
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in lines}


def weaknesses(info: Mapping[str, str]) -> list[str]:
    """What an operator should know at the start, one sentence each; empty where all is well.

    What a server does not tell (some providers hide fields) is not warned of.
    """
    found = []
    version = info.get("redis_version", "")
    if version and _version(version) < OLDEST_REDIS:
        found.append(f"Redis {version} is too old: 6.2 is needed")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        when = "once maxmemory is reached" if info.get("maxmemory", "0") != "0" else "if maxmemory is set"
        found.append(
            f"maxmemory-policy is {policy}: {when}, records are evicted and their requests may be executed"
            " again; set it to noeviction"
        )
    if info.get("aof_enabled") == "0":
        found.append(
            "appendonly is no: a restart of Redis forgets records, and other sidecars than the one that sent"
            " a request may execute it again; set appendonly yes"
        )
    if info.get("role") == "slave":
        found.append("the server is a replica and takes no writes")
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
