"""What `sidecar run` can be told on its command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags as they were given, unread; they override the environment, which overrides the file.

    Attributes:
        config: The configuration file.
        upstream: URL of the only upstream, or of ``app`` where there are several.
        listen: Where the first listener binds.
        admin: Where the admin port binds.
        store: URL of the store.
        workers: Number of processes.
        log_level: Least serious line that is logged.
        log_format: ``json`` or ``console``.
    """

    config: str | None = None
    upstream: str | None = None
    listen: str | None = None
    admin: str | None = None
    store: str | None = None
    workers: str | None = None
    log_level: str | None = None
    log_format: str | None = None
