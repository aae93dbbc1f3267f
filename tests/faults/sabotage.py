"""What can be done to sidecars and to their Redis, one thing after another."""

from __future__ import annotations

import signal
import time

from tests.support.waiting import eventually

_LONGER_THAN_A_LEASE = 1.5


def kill(sidecar):
    """SIGKILL, on purpose: closing it later must not complain."""
    sidecar.process.signal(signal.SIGKILL)
    eventually(lambda: sidecar.process.exit_code is not None, "it is dead")
    sidecar.close = lambda: None


class Down:
    """Ways in which a Redis is down, and what ends them."""

    @staticmethod
    def refuse(server):
        server.kill()
        return server.start

    @staticmethod
    def fill(server):
        server.command("CONFIG", "SET", "maxmemory", "1")
        return lambda: server.command("CONFIG", "SET", "maxmemory", "0")

    @staticmethod
    def make_read_only(server):
        server.command("REPLICAOF", "127.0.0.1", "1")
        return lambda: server.command("REPLICAOF", "NO", "ONE")

    @staticmethod
    def silence(server):
        server.freeze()
        return server.thaw


DOWN = [Down.refuse, Down.fill, Down.make_read_only, Down.silence]


class Saboteur:
    """Does one thing after another to two sidecars and their Redis."""

    def __init__(self, sidecars, restart, server):
        self._sidecars = sidecars
        self._restart = restart
        self._server = server

    def work(self):
        for deed in (self._scripts, self._stop, self._kill, self._cut, self._silence, self._read_only):
            deed()
            time.sleep(0.3)
        for way in (Down.refuse, Down.fill):
            end = way(self._server)
            time.sleep(0.3)
            end()
            time.sleep(0.3)

    def _scripts(self):
        self._server.command("SCRIPT", "FLUSH", "ASYNC")

    def _stop(self):
        process = self._sidecars[0].process
        process.signal(signal.SIGSTOP)
        time.sleep(_LONGER_THAN_A_LEASE)
        process.signal(signal.SIGCONT)

    def _kill(self):
        for number in (0, 1):
            kill(self._sidecars[number])
            self._sidecars[number] = self._restart(self._sidecars[number].port)
            time.sleep(0.3)

    def _cut(self):
        self._server.command("CLIENT", "KILL", "TYPE", "normal")

    def _silence(self):
        self._server.freeze()
        time.sleep(1.2)  # longer than the sidecars wait
        self._server.thaw()

    def _read_only(self):
        end = Down.make_read_only(self._server)
        time.sleep(0.3)
        end()
