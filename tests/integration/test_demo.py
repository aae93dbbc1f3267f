"""``sidecar demo`` as a newcomer runs it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.demo.processes import Addresses
from sidecar.demo.run import run_demo
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

# What one demo has left behind is told from what another one, in another worker, has just begun with.
pytestmark = pytest.mark.xdist_group("usual ports")

SECONDS = 60


def demo(*arguments: str, output) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sidecar", "demo", *arguments]
    return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def listening_ports(shown: str) -> list[int]:
    """Ports of the three addresses that the demo introduces itself with."""
    return [int(port) for port in re.findall(r"^\w+ +http://127\.0\.0\.1:(\d+) ", shown, re.MULTILINE)]


def is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def invites(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"the demo ended with {process.returncode}:\n{log.read_text()}"
    return "The admin page:" in log.read_text()


@contextlib.contextmanager
def usual_port_taken():
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # taken by somebody else: just as good
            held.enter_context(socket.create_server(("127.0.0.1", 8080)))
        yield


def test_the_tour_shows_every_promise_and_leaves_nothing_behind(tmp_path):
    log = tmp_path / "demo.txt"
    with usual_port_taken(), log.open("wb") as output:
        process = demo("--once", output=output)
        assert process.wait(SECONDS) == 0, log.read_text()
    shown = log.read_text()
    for expected in (
        "X-Correlation-ID: demo-1",
        "HTTP/1.1 201 Created",
        "X-Idempotent-Replayed: true",
        "X-Idempotent-Original-Correlation-ID: ",
        "HTTP/1.1 422 ",
        "IDEMPOTENCY_KEY_CONFLICT",
        "HTTP/1.1 409 ",
        "DUPLICATE_REQUEST_IN_PROGRESS",
        "Retry-After: 1",
        "executed by the service so far: 2",
        "http_requests_total{",
        "idempotency_requests_total{",
    ):
        assert expected in shown, shown
    ports = listening_ports(shown)
    assert len(ports) == 3
    assert 8080 not in ports
    assert not any(is_open(port) for port in ports)


def test_ports_that_are_taken_before_they_are_used_are_replaced(monkeypatch, capfd):
    """As by another demo that began at the same moment: both had found the port free."""
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        taken = f"127.0.0.1:{quicker.getsockname()[1]}"
        choose, chosen = Addresses.choose, []

        def choose_too_late():
            addresses = choose()
            chosen.append(addresses)
            return replace(addresses, listen=taken) if len(chosen) == 1 else addresses

        monkeypatch.setattr(Addresses, "choose", choose_too_late)
        assert run_demo(once=True) == 0, capfd.readouterr().out
    assert len(chosen) == 2
    assert taken not in capfd.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_up_until_a_signal_and_then_ends_everything(tmp_path, number):
    log = tmp_path / "demo.txt"
    with log.open("wb") as output:
        process = demo(output=output)
        try:
            eventually(lambda: invites(process, log), "the demo invites to try it", within=SECONDS)
            ports = listening_ports(log.read_text())
            assert all(is_open(port) for port in ports)
            process.send_signal(number)
            assert process.wait(SECONDS) == 0, log.read_text()
        finally:
            process.terminate()  # in order, also where the test failed: it has processes of its own to end
            process.wait(SECONDS)
    assert not any(is_open(port) for port in ports)
    assert "failed" not in log.read_text()
