"""The services of the integration tests, used directly."""

from __future__ import annotations

import sys

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.processes import Process


def test_httpbin_answers(httpbin):
    assert httpx.get(f"{httpbin.url}/get", trust_env=False).json()["url"].endswith("/get")


def test_websocket_echo(websocket_echo):
    with connect(f"ws://127.0.0.1:{websocket_echo.port}/", proxy=None) as connection:
        connection.send("hello")
        assert connection.recv(timeout=5) == "hello"


def test_events_come_when_they_are_sent(event_source):
    with httpx.Client(base_url=event_source.url, trust_env=False, timeout=5) as client:
        channel = "unit"
        with client.stream("GET", f"/events/{channel}") as stream:
            lines = stream.iter_lines()
            for number in "12":
                httpx.post(f"{event_source.url}/send/{channel}", content=number, trust_env=False)
                assert next(lines) == f"data: {number}"
                assert next(lines) == ""
            httpx.post(f"{event_source.url}/end/{channel}", trust_env=False)
            assert list(lines) == []


def test_a_process_is_watched_and_stopped():
    script = "import signal, sys; print('up'); signal.sigwait([signal.SIGTERM]); print('down'); sys.exit(3)"
    script = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); {script}"
    with Process([sys.executable, "-c", script]) as process:
        process.stdout.wait(lambda line: line == "up", "up")
        assert process.resident_bytes() > 1 << 20
        assert process.stop() == 3
    assert process.stdout.all() == ["up", "down"]


def test_a_line_that_never_comes_is_an_error_as_soon_as_the_process_has_ended():
    with (
        Process([sys.executable, "-c", "print('only this')"]) as process,
        pytest.raises(AssertionError, match="only this"),
    ):
        process.stdout.wait(lambda line: line == "that", "that")
