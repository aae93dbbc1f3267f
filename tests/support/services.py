"""Services that nobody here wrote, as real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.ports import free_port
from tests.support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping

_APPS = Path(__file__).parent / "apps"


class Service:
    """A server process on a port of its own."""

    def __init__(
        self, name: str, arguments: list[str], port: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process([sys.executable, *arguments], name=name, env=env)
        try:
            self.process.wait_listening("127.0.0.1", port)
        except AssertionError:
            self.process.kill()
            raise

    def close(self) -> None:
        """Stop it."""
        self.process.stop()


def httpbin() -> Service:
    """httpbin under gunicorn, with threads so that slow calls do not hold up others."""
    port = free_port()
    options = [
        "--bind",
        f"127.0.0.1:{port}",
        "--threads",
        "8",
        "--keep-alive",
        "30",
        "--log-level",
        "warning",
    ]
    return Service("httpbin", ["-m", "gunicorn", *options, "httpbin:app"], port)


def websocket_echo() -> Service:
    """A ``websockets`` server that sends every message back."""
    port = free_port()
    return Service("websocket echo", [str(_APPS / "websocket_echo.py"), str(port)], port)


def event_source() -> Service:
    """A Starlette application under uvicorn that streams server-sent events when it is told to."""
    port = free_port()
    options = ["--app-dir", str(_APPS), "--port", str(port), "--log-level", "warning", "--no-access-log"]
    return Service("event source", ["-m", "uvicorn", *options, "event_source:app"], port)


def traced_service(name: str, collector_url: str) -> Service:
    """A Starlette application under uvicorn that is traced with the library, and calls others."""
    port = free_port()
    options = ["--app-dir", str(_APPS), "--port", str(port), "--log-level", "warning", "--no-access-log"]
    env = {
        **os.environ,
        "SERVICE": name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    return Service(name, ["-m", "uvicorn", *options, "traced_service:app"], port, env)
